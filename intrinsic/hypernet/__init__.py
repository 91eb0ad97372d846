"""Experimental: a hypernetwork that writes LoRA weights from a query's embedding, in one pass.

    ΔW_k = (α / r) ΔB_k(q) ΔA_k(q)        for every target layer k

An 'instant expert' for what no stored adapter covers. Off by default and imported only when asked
for: nothing below the command line imports this package, and importing it alone imports no torch.
"""
