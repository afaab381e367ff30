"""What both functions load from the file system, on their first request and not at import.

So a cold start stays short, and a warm environment finds model and database where it left them.
"""

import sys

sys.path.append("/mnt/efs/packages")

TABLE = "notes"
model = None
database = None


def initialize_lazy():
    """The encoder and the database."""
    global model, database
    if model is None:
        import lancedb
        from embedding import SentenceEncoder

        model = SentenceEncoder("/mnt/efs/models/all-MiniLM-L6-v2")
        database = lancedb.connect("/mnt/efs/databases/lancedb")
    return model, database
