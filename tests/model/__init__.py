"""A model of the protocol, explored breadth first: every interleaving, with every fault, at small bounds."""
