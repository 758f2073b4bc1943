"""Rules of operations that are sums of products: matrix products, convolutions, attention, Fourier sums."""
