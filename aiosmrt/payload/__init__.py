"""What the parts of an answer carry: text, lines, documents, events, tokens.

Pure but for the view, which waits for parts and lets others run.
"""

from __future__ import annotations
