"""UNITE's run: stages of training, then any tasks."""
from jaxret.methods.embedding_run import evaluate, train_and_evaluate

__all__ = ['evaluate', 'train_and_evaluate']
