"""BERT as a native citizen of spaCy."""
