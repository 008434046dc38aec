"""What SageMaker Runtime is: its model, operations, parameters, rules and failures.

Pure: it neither waits nor opens anything.
"""

from __future__ import annotations
