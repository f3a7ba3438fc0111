"""Rows of the embeddings that LoRA trains for new tokens, where `modules_to_save` does not train the matrices whole."""

from collections.abc import Iterator

from hatrain.contract.spec import JobSpec
from launch.memory.families import FAMILIES
from launch.memory.structure import Structure, adapters_of


def trained(job: JobSpec) -> bool:
    """Whether a job trains rows of its base's embeddings, as far as the job tells."""
    lora = job.method.lora
    if lora is None or not job.model.add_chatml_tokens:
        return False
    ends = {"embeddings", *(name for family in FAMILIES.values() for name in (family.embedding, family.head))}
    return ends.isdisjoint(lora.modules_to_save or ())


def refusals(job: JobSpec, model: Structure) -> Iterator[tuple[str, str]]:
    """(key, reason) of bases of which PEFT cannot train rows; hatrain/model/token_rows.py refuses more."""
    adapted, family = adapters_of(model, job), model.family
    if adapted and family.head in adapted.row_ends and family.head_bias:
        yield (
            "method.lora.modules_to_save",
            f"found no {family.head}, and new tokens for {job.model.base}, whose output head has a bias, which PEFT "
            f"leaves out of a head with trained rows; write modules_to_save: [{family.embedding}, {family.head}]",
        )
