"""From text to a pre-trained network, without spaCy: corpus, shards, pairs, batches, loop."""
