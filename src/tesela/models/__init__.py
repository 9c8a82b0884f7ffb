"""Networks and the expert file: tensors in, tensors out."""
