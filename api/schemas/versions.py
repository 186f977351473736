"""What the API answers, field by field. Names are those of the SQL columns; masses are ten-thousandths of a photo."""

from pydantic import BaseModel, Field

from pipeline.store.queries import ActiveModel


class Versions(BaseModel):
    """What an answer rests on: with the same versions and photos it is the same again."""

    model: str
    fingerprint: str = Field(description="of the model's weights and of what is done to a photo before it sees it")
    taxonomy: str
    taxonomy_sha256: str
    decision_revision: int = Field(description="of the constants by which masses become tags")
    policy_version: int = Field(description="of what is hidden or shown as something broader; 0: no policy")

    @classmethod
    def of(cls, model: ActiveModel, policy_version: int) -> "Versions":
        """The versions of a model, and of the policy under which it is read."""
        return cls(
            model=model.name,
            fingerprint=model.fingerprint,
            taxonomy=model.taxonomy,
            taxonomy_sha256=model.taxonomy_sha256,
            decision_revision=model.decision_revision,
            policy_version=policy_version,
        )
