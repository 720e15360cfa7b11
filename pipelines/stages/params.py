"""The schema of params.yaml and nothing else.

No key has a default here: a default in code would be a parameter that DVC cannot see.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
# Generous upper bounds catch typing errors before they exhaust memory.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=0, le=8192)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of a YAML file: unknown keys are mistakes, values are not converted and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SplitCounts(Section):
    train: Count
    val: Count
    test: Count


class Images(SplitCounts):
    test_many: Count
    many_share: Fraction
    absent: Annotated[float, Field(ge=0, le=0.5)]


class Synthetic(Section):
    seed: Seed
    identities: SplitCounts
    images_per_camera: Images


class Folder(Section):
    table: str
    pattern: str


class Download(Section):
    dataset: Literal["synthetic", "sysu-mm01", "regdb", "llcm", "folder"]
    source: str
    differences: Literal["error", "warn"]
    folder: Folder
    synthetic: Synthetic

    @model_validator(mode="after")
    def source_fits(self) -> "Download":
        # dvc.yaml makes it a dependency of the stage: the renderer's code, or what was linked there.
        places = {"synthetic": "msclnet/synthetic", "folder": "data/source/own"}
        fitting = places.get(self.dataset, f"data/source/{self.dataset}")
        if self.source != fitting:
            raise ValueError(
                f"source must be {fitting!r} for dataset {self.dataset!r}, not {self.source!r}; the images themselves "
                "may lie anywhere: link them there (data/source/README.md)"
            )
        return self


Share = Annotated[float, Field(gt=0, lt=1)]


class FolderSplit(Section):
    seed: Seed
    val: Share
    test: Share

    @model_validator(mode="after")
    def some_are_trained_on(self) -> "FolderSplit":
        if self.val + self.test >= 1:
            raise ValueError(f"val and test must be below 1 together, not {self.val} and {self.test}")
        return self


class Preprocess(Section):
    height: Annotated[int, Field(ge=32, le=1024)]
    width: Annotated[int, Field(ge=16, le=1024)]
    validation: Literal["held_out", "none"]
    regdb_split: Annotated[int, Field(ge=1, le=10)]
    folder_split: FolderSplit
    leaks: Literal["error", "warn"]


class Erasing(Section):
    probability: Fraction
    area: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def ordered(self) -> "Erasing":
        for name in ("area", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [smallest, largest], not [{low}, {high}]")
        return self


class Augment(Section):
    padding: Annotated[int, Field(ge=0, le=1024)]
    flip: Fraction
    channel_exchange: Fraction
    erasing: Erasing


class Model(Section):
    backbone: Literal["slim", "resnet18", "resnet50"]
    width: Annotated[int, Field(le=64)]
    reduction: Annotated[int, Field(ge=1, le=8)]
    weights: Annotated[str, Field(min_length=1)]
    trunk: Literal["shared", "separate"]
    last_stride: Literal[1, 2]
    non_local_inner: Size
    gem_p: Annotated[float, Field(ge=1, le=6)]
    parts: Annotated[int, Field(ge=1, le=18)]

    @field_validator("width")
    @classmethod
    def at_least_eight(cls, width: int) -> int:
        if width < 8:
            raise ValueError(
                f"width must be at least 8, not {width}: on processors without AVX-512 torch computes wrong "
                "gradients for 1 x 1 convolutions of fewer channels"
            )
        return width

    @model_validator(mode="after")
    def slim_has_no_weights(self) -> "Model":
        if self.backbone == "slim" and self.weights != "none":
            raise ValueError(f"weights must be 'none' for backbone 'slim', not {self.weights!r}")
        return self


class Synergy(Section):
    teacher: Literal["mogrifier", "parts_mean", "logits_mean", "mutual"]
    reading: Literal["per_part", "interleaved", "two_chains"]
    rounds: Annotated[int, Field(ge=0, le=100)]
    rank: Size
    bias: bool
    target: Literal["synergy", "label"]
    inputs: Literal["detached", "joint"]
    residual: Literal["mean", "none"]
    temperature: Positive


class Term(Section):
    on: bool
    weight: NotNegative


class Triplet(Term):
    form: Literal["agw", "clean"]


class Divergence(Term):
    form: Literal["js", "kl", "kl_hinge"]
    temperature: Positive
    reach: Literal["extractors", "affine"]


class Local(Term):
    form: Literal["stable", "printed", "cosine"]


class Global(Term):
    feature: Literal["pooled", "parts"]
    normalised: bool


class Inter(Term):
    form: Literal["hinge", "negative"]
    margin: Positive


class Cascade(Section):
    feature: Literal["pooled", "parts"]
    normalised: bool
    synergistic: bool
    subclass: Literal["camera", "modality"]


class Loss(Section):
    routing: Literal["paper", "joint"]
    identity: Term
    triplet: Triplet
    synergy_identity: Term
    divergence: Divergence
    target: Term
    local: Local
    global_: Annotated[Global, Field(alias="global")]
    cascade: Cascade
    sub: Term
    intra: Term
    inter: Inter

    @model_validator(mode="after")
    def something_to_learn(self) -> "Loss":
        terms = [value for value in self.__dict__.values() if isinstance(value, Term)]
        if not any(term.on and term.weight > 0 for term in terms):
            raise ValueError("at least one term must be on with a weight above 0")
        return self


class Batch(Section):
    identities: Annotated[int, Field(ge=2, le=8192)]
    images: Annotated[int, Field(ge=2, le=8192)]
    sampling: Literal["random", "replacement", "two_per_camera"]

    @model_validator(mode="after")
    def pairs_need_even(self) -> "Batch":
        if self.sampling == "two_per_camera" and self.images % 2:
            raise ValueError(f"images must be even for sampling 'two_per_camera', not {self.images}")
        return self


class Rate(Section):
    from_epoch: Count
    rate: Positive


class Optimizer(Section):
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: NotNegative
    warmup_epochs: NotNegative
    warmup: Literal["step", "epoch"]
    pretrained_factor: Positive
    schedule: Annotated[list[Rate], Field(min_length=1)]

    @model_validator(mode="after")
    def in_order(self) -> "Optimizer":
        starts = [point.from_epoch for point in self.schedule]
        if starts[0] != 1 or sorted(set(starts)) != starts:
            raise ValueError(f"schedule must start with from_epoch 1 and go upwards, not {starts}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Train(Section):
    epochs: Count
    steps_per_epoch: CountOrNone
    batch: Batch
    optimizer: Optimizer
    precision: Literal["auto", "bf16", "fp32"]
    compile: bool
    sync_batch_norm: bool
    keep: Literal["last", "best"]
    validate_every: Count
    gradients_every: CountOrNone
    norm_limit: Positive
    weight_average: Annotated[float, Field(ge=0, lt=1)]


class Embed(Section):
    batch: Annotated[int, Field(ge=1, le=65_536)]
    precision: Literal["auto", "bf16", "fp32"]
    backend: Literal["torch", "folded", "openvino"]
    flip: bool


class ReRanking(Section):
    on: bool
    k1: Count
    k2: Count
    lambda_: Annotated[Fraction, Field(alias="lambda")]


class Evaluate(Section):
    feature: Literal["bnneck", "pooled"]
    modes: Annotated[list[Literal["all", "indoor"]], Field(min_length=1)]
    shots: Annotated[list[Literal[1, 10]], Field(min_length=1)]
    samplers: Annotated[list[Literal["agw", "official"]], Field(min_length=1)]
    permutations: str
    trials: Annotated[int, Field(ge=1, le=10)]
    same_camera: Literal["kept", "ignored"]
    reference: bool
    re_ranking: ReRanking


class Promote(Section):
    gain: Annotated[float, Field(ge=0, le=100)]
    certain: bool
    slice_loss: Annotated[float, Field(ge=0, le=100)]
    slow_down: NotNegative
    calibration: Fraction
    approval: bool


class Visualize(Section):
    seed: Seed
    heatmap_identities: Count
    retrieval_queries: Count
    map_identities: Annotated[int, Field(ge=2, le=1_000_000)]
    perplexity: Positive


class Tracking(Section):
    experiment: Annotated[str, Field(min_length=1)]
    registered_model: Annotated[str, Field(min_length=1)]


class Params(Section):
    """All of params.yaml, validated."""

    seed: Seed
    profile: CountOrNone
    download: Download
    preprocess: Preprocess
    augment: Augment
    model: Model
    synergy: Synergy
    loss: Loss
    train: Train
    embed: Embed
    evaluate: Evaluate
    promote: Promote
    visualize: Visualize
    tracking: Tracking

    @model_validator(mode="after")
    def branch_exists(self) -> "Params":
        loss, teacher = self.loss, self.synergy.teacher
        needs = {
            "synergy_identity": loss.synergy_identity.on,
            "local": loss.local.on,
            "global": loss.global_.on,
            "cascade.synergistic": loss.cascade.synergistic,
        }
        needing = [name for name, on in needs.items() if on]
        if needing and teacher in ("logits_mean", "mutual"):
            raise ValueError(
                f"synergy.teacher {teacher!r} has no synergistic feature, but loss.{needing[0]} needs one: "
                "switch it off, or take 'mogrifier' or 'parts_mean'"
            )
        if teacher == "parts_mean" and self.synergy.residual == "none":
            raise ValueError("synergy.residual must be 'mean' for teacher 'parts_mean', which has no LSTM")
        return self

    @model_validator(mode="after")
    def best_needs_validation(self) -> "Params":
        if self.preprocess.validation == "none" and self.train.keep == "best":
            raise ValueError(
                "train.keep is 'best', but preprocess.validation 'none' leaves no identities to choose on: "
                "take 'last', or hold validation identities out"
            )
        return self

    @model_validator(mode="after")
    def official_galleries_have_their_file(self) -> "Params":
        place = self.evaluate.permutations
        if place and (not place.startswith("data/permutations/") or ".." in place):
            raise ValueError(
                f"evaluate.permutations must be a file below data/permutations/, where a change of it is seen, not "
                f"{place!r}: `ln -s` it there"
            )
        drawn = self.download.dataset in ("synthetic", "sysu-mm01")
        if drawn and "official" in self.evaluate.samplers and not self.evaluate.permutations:
            raise ValueError(
                "evaluate.permutations is empty, but evaluate.samplers asks for 'official': link rand_perm_cam.mat, "
                "which comes with SYSU-MM01's evaluation code, to data/permutations/rand_perm_cam.mat and give that "
                "path, or take the sampler 'agw'"
            )
        return self

    @model_validator(mode="after")
    def maps_are_large_enough(self) -> "Params":
        size = max(self.preprocess.height, self.preprocess.width)
        shrunk = size // self.model.reduction if self.model.backbone == "slim" else size
        if shrunk <= 16 * self.model.last_stride:
            raise ValueError(
                f"preprocess.height and preprocess.width are too small for model.backbone {self.model.backbone!r}: "
                "its maps would have a single place; make the images larger"
            )
        return self

    def section(self, name: str) -> dict[str, Any]:
        """One section as plain values, keys as in params.yaml."""
        return getattr(self, name).model_dump(by_alias=True)
