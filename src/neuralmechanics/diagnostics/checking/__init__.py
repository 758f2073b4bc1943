"""Every constraint that symmetries put on loss, gradient and Hessian, on given batches."""
