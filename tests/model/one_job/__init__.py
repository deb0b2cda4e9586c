"""One job on its whole way, under every fault."""
