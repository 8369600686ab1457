"""What rebalances and replays come to, drawn: pages of their own, and pictures.

Figures first, arrays in and arrays out (`gpu_loads`, `transfers`, `findings`, `rebalanced`); drawings of them second,
by matplotlib (`drawing`, `heatmaps`, `lines`); pages of these last.
"""
