"""thinc models around the network: layout, encoder, listeners, heads, optimizer."""
