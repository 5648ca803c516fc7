"""LowKey: photos that face recognition can no longer match, and the receipt that shows it.

The package is not called `protect`, as that is the name of the function `fairveil.protect`.
"""
