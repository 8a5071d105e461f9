"""Names that processes of different kinds must agree on. Standard library only, so that the handler may import it.

The message is a wake-up call: it names a document and the generation that was wanted when it was sent. What is to be
done, and whether anything is, stands in the document's row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CELERY_APP_NAME = "lex-intel"

# The provider name under which the local stack's own model server embeds (``infra.local.parts``). Its tokens cost nothing.
LOCAL_PROVIDER = "local"

# UTF-8 bytes that a key has at most (Amazon S3 User Guide, "Naming Amazon S3 objects").
MAX_KEY_BYTES = 1024


class Stage(StrEnum):
    """A step of the pipeline. The value is the last part of a task id."""

    PROCESS = "process"
    EXTRACT = "extract"
    EMBED = "embed"


TASK_NAMES: dict[Stage, str] = {
    Stage.PROCESS: "worker.tasks.process_document_pipeline",
    Stage.EXTRACT: "worker.tasks.extract_text_from_document",
    Stage.EMBED: "worker.tasks.generate_embeddings",
}

# Gives texts that are served a vector of another embedding profile too. No stage: it is about no single document.
FILL_TASK = "worker.tasks.fill_embedding_profile"

# One queue a stage, so that CPU-bound extraction and I/O-bound embedding scale apart.
QUEUES: dict[Stage, str] = {
    Stage.PROCESS: "lex.documents",
    Stage.EXTRACT: "lex.extraction",
    Stage.EMBED: "lex.embedding",
}


@dataclass(frozen=True, slots=True)
class WakeUp:
    """One message to one stage's queue. ``document_id`` is a UUID in its canonical text form."""

    document_id: str
    generation: int
    stage: Stage

    @property
    def arguments(self) -> tuple[str, int]:
        return self.document_id, self.generation

    @property
    def task_name(self) -> str:
        return TASK_NAMES[self.stage]

    @property
    def queue(self) -> str:
        return QUEUES[self.stage]

    @property
    def task_id(self) -> str:
        """The Celery task id, which ``AsyncResult`` takes: ``{document}:{generation}:{stage}``."""
        return f"{self.document_id}:{self.generation}:{self.stage.value}"


@dataclass(frozen=True, slots=True)
class FillProfile:
    """The message that asks for another turn of filling a profile. What lacks a vector stands in the tables."""

    profile_id: int

    @property
    def arguments(self) -> tuple[int]:
        return (self.profile_id,)

    @property
    def task_name(self) -> str:
        return FILL_TASK

    @property
    def queue(self) -> str:
        return QUEUES[Stage.EMBED]

    @property
    def task_id(self) -> str:
        return f"fill:{self.profile_id}"


Message = WakeUp | FillProfile
