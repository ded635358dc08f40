"""BERT and XLM-R as sentence-transformers embeds texts with them."""
MODEL_TYPES = ('bert', 'xlm-roberta')
