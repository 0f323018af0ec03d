"""`python -m spacy_bert`: the commands of `python -m spacy bert`, on a machine without spaCy."""

from spacy_bert.cli.app import app

if __name__ == "__main__":
    app(prog_name="python -m spacy_bert")
