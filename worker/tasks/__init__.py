"""The Celery tasks. Each file holds one; ``celery_app`` finds them here."""

from worker.tasks.extract_text_from_document import extract_text_from_document
from worker.tasks.fill_embedding_profile import fill_embedding_profile
from worker.tasks.generate_embeddings import generate_embeddings
from worker.tasks.process_document_pipeline import process_document_pipeline

__all__ = ["extract_text_from_document", "fill_embedding_profile", "generate_embeddings", "process_document_pipeline"]
