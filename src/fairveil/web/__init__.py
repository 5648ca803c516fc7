"""The photo tool in a browser: a page on this machine that protects photos and says who still recognizes them.

The page and its server are small on purpose and speak to nobody but each other: no request leaves the machine.
"""
