"""An asyncio-native client for the Amazon SageMaker Runtime API."""

__version__ = "0.1.0"

