"""Speed, one question a file. `python -m bench` answers all, `python -m bench NAME` one.

Numbers of different machines do not compare, so what counts is ratios inside one run.
"""
