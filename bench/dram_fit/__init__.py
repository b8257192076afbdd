"""The fitted model predicts the error rates of modules that it has not seen better than the vendor's average."""

DEVICE = "cpu"
