"""`trimtab watch`: a controller that reads loads as they come, and keeps a file with the placement to serve by.

`sources` and the modules named after them read, `history` keeps what was read, `service` asks, `decision` judges,
`output` writes, `journal` remembers all of it for the next start, and `controller` goes round.
"""
