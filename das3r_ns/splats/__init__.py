"""The Gaussians: splatfacto with a staticness for every one, what trains them, and what the viewer shows of them."""
