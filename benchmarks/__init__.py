"""How much the client costs, beside its peers: one file per question, and README.md."""
