"""Training of the network's mask heads: everything else of the network stays as its checkpoint has it."""
