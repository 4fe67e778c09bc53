"""The dense inner loops of the front end once more, in torch, for a GPU: same arguments, same results within rounding.

The numba kernels beside this package say what each of them computes; these run on any device that torch has.
"""
