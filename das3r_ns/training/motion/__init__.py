"""The training of the motion head: drawn clips, the front end's evidence of them, and the network that corrects it."""
