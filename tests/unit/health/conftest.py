from tests.unit.running_pipeline import clean, receiver, start

__all__ = ["clean", "receiver", "start"]
