"""Training steps of the published code of MERL, MELP, MoRE, Symile and ECG-JEPA, from a checkout that the user names, and its losses.

Nothing of a peer is part of this repository. Its modules are imported from the checkout; weights and tokenizers that it would
download are replaced by random ones of the same size, and packages that a step does not need by empty ones. What is left out is said
in `part`.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], float]
"""Forward, backward and optimiser step on the same batch; returns the loss."""

BERT_ROWS, ROBERTA_ROWS = 30_523, 50_265
_BERT = {"text_weights": None, "text_vocabulary": BERT_ROWS, "text_layers": 12, "text_heads": 12}


@dataclass(frozen=True)
class Peer:
    """A method's published code.

    Attributes:
        preset: ours that has its size.
        options: what of the preset is changed to do equal work.
        batch: records of a step.
        part: what of the published code runs.
        build: makes the step from the checkout and the batch size.
        losses: from the checkout, by name: what the published code and ours say of the same numbers.
    """

    preset: str
    options: dict[str, Any]
    batch: int
    part: str
    build: Callable[[Path, int], tuple[Step, int]]
    losses: Callable[[Path], dict[str, tuple[float, float]]]


@contextmanager
def _importing(*folders: Path) -> Iterator[None]:
    """Put folders first on the path; modules that were imported from them are forgotten afterwards, since their names are common ones."""
    before = set(sys.modules)
    sys.path[:0] = [str(f) for f in folders]
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if any(file.startswith(f"{f}/") for f in folders):
                del sys.modules[name]


def _from_file(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, f"{path} is no module"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _empty(name: str, **members: Any) -> None:
    """Let a package that a step does not need be imported where it is not installed."""
    if name not in sys.modules and importlib.util.find_spec(name.split(".")[0]) is None:
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    for member, value in members.items():
        if not hasattr(sys.modules.get(name), member) and isinstance(sys.modules.get(name), types.ModuleType):
            setattr(sys.modules[name], member, value)


_KEPT: list[Any] = []


def declare_torchvision() -> None:
    """Declare two operators whose compiled code a torchvision built for another torch cannot load; no step calls them.

    Before anything imports torchvision, as transformers does where it is installed.
    """
    if not _KEPT and importlib.util.find_spec("torchvision") is not None and "torchvision" not in sys.modules:
        _KEPT.append(torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            _KEPT[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _stepper(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Step:
    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(value.detach())

    return step


class _Tokenizer:
    """Stands for a tokenizer where token numbers are given."""

    pad_token_type_id, cls_token_id, all_special_ids = 0, 101, [0, 101, 102, 30_522]
    eos_token_id = 102

    def __len__(self) -> int:
        return BERT_ROWS

    def add_special_tokens(self, _: Any) -> None:
        """Nothing to add: the numbers are there already."""

    def convert_tokens_to_ids(self, _: str) -> int:
        """The separator."""
        return 102


def _bert(kind: str, **changes: Any) -> Any:
    import transformers

    config = transformers.BertConfig(vocab_size=30_522, **changes)
    return SimpleNamespace(from_pretrained=lambda *_, **__: getattr(transformers, kind)(config))


def _report_numbers(batch: int, length: int) -> Tensor:
    """Token numbers (B, N) without padding; every ninth is a full stop."""
    numbers_BN = torch.randint(1000, 20_000, (batch, length))
    numbers_BN[:, 8::9] = 18
    return numbers_BN


def _one_process() -> None:
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


# ---- MERL


def _merl(checkout: Path, batch: int) -> tuple[Step, int]:
    declare_torchvision()
    with _importing(checkout / "utils"):
        builder, losses = importlib.import_module("utils_builder"), importlib.import_module("utils_loss")
    builder.AutoModel = _bert("BertModel")
    builder.AutoTokenizer = SimpleNamespace(from_pretrained=lambda *_, **__: _Tokenizer())
    head = {"mlp_hidden_size": 256, "projection_size": 256}
    net = builder.ECGCLIP({"projection_head": head, "ecg_model": "resnet18", "num_leads": 12, "text_model": "random"}).train()
    ecg, numbers = torch.rand(batch, 12, 5000), _report_numbers(batch, 256)

    def loss() -> Tensor:
        out = net(ecg, numbers, torch.ones_like(numbers))
        cma, _, _ = losses.clip_loss(out["proj_ecg_emb"][0], out["proj_text_emb"][0], device="cpu")
        uma, _, _ = losses.clip_loss(*out["ecg_emb"], device="cpu")
        total: Tensor = cma + uma
        return total

    return _stepper(loss, torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-8)), _count(net)


def _merl_losses(checkout: Path) -> dict[str, tuple[float, float]]:
    from models.objectives.contrastive import info_nce

    with _importing(checkout / "utils"):
        losses = importlib.import_module("utils_loss")
    x, y = torch.randn(16, 32), torch.randn(16, 32)
    theirs, _, _ = losses.clip_loss(x, y, device="cpu")
    return {"CMA": (float(theirs), float(info_nce(x, y, 0.07, "sum")))}


# ---- MELP


def _melp_module(checkout: Path) -> Any:
    declare_torchvision()
    _empty("ipdb")
    _empty("ot")
    _empty("cosine_annealing_warmup", CosineAnnealingWarmupRestarts=object)
    _empty("fairseq_signals_backbone.models.wav2vec2.wav2vec2_cmsc", Wav2Vec2CMSCModel=object, Wav2Vec2CMSCConfig=object)
    sys.path.insert(0, str(checkout / "src"))
    return importlib.import_module("melp.models.melp_model")


def _melp(checkout: Path, batch: int) -> tuple[Step, int]:
    module = _melp_module(checkout)
    _one_process()
    module.AutoModelForCausalLM = _bert("BertLMHeadModel", is_decoder=True)
    module.AutoTokenizer = SimpleNamespace(from_pretrained=lambda *_, **__: _Tokenizer())
    net = module.MELPModel(
        ecg_encoder_name="resnet18", max_seq_len=128, clip_loss_weight=1.0, caption_loss_weight=2.0, local_loss_weight=0.2
    ).train()
    data = {"ecg": torch.rand(batch, 12, 5000), "report": _report_numbers(batch, 127)}
    [optimizer], _ = net.configure_optimizers()
    return _stepper(lambda: net.shared_step(data, 1)[0]["loss"], optimizer), _count(net)


def _melp_losses(checkout: Path) -> dict[str, tuple[float, float]]:
    from models.objectives.beats import beat_loss
    from models.objectives.captioning import token_mean, token_sums
    from models.objectives.contrastive import info_nce

    module = _melp_module(checkout)
    _one_process()
    beats_BKD, sentences_BSD = torch.randn(6, 5, 16), torch.randn(6, 3, 16)
    theirs, _ = module.BeatAlignmentModule()(beats_BKD, list(sentences_BSD))
    ours = beat_loss(beats_BKD, sentences_BSD, torch.ones(6, 3, dtype=torch.bool), "code", "sum")
    x, y = (torch.nn.functional.normalize(torch.randn(6, 16), dim=1) for _ in range(2))
    numbers, logits = torch.randint(1, 50, (6, 9)), torch.randn(6, 9, 50)
    numbers[:, 6:] = 0
    coca = module.CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=1.0, pad_id=0)
    clip, caption = coca(x, y, logits, numbers, torch.tensor(1 / 0.07))
    own = token_mean(*token_sums(logits, torch.eye(50), numbers, numbers != 0))
    return {
        "beat (code)": (float(theirs), float(ours)),
        "rhythm": (float(clip), float(info_nce(x, y, 0.07, "mean"))),
        "token": (float(caption), float(own)),
    }


# ---- MoRE


def _more_module(checkout: Path) -> Any:
    import transformers

    declare_torchvision()
    with _importing(checkout / "utils"):
        module = importlib.import_module("build_model")
    config = transformers.RobertaConfig(vocab_size=ROBERTA_ROWS, max_position_embeddings=514, type_vocab_size=1)
    module.AutoConfig = SimpleNamespace(from_pretrained=lambda *_, **__: config)
    module.AutoModel = SimpleNamespace(from_pretrained=lambda *_, **__: transformers.RobertaModel(config))
    return module


def _info_nce(temperature: float) -> Any:
    """The package that MoRE's training script takes its loss from."""
    return importlib.import_module("info_nce").InfoNCE(temperature)


def _more(checkout: Path, batch: int) -> tuple[Step, int]:
    net = _more_module(checkout).MultiModal().train()
    criterion = _info_nce(0.02)
    image, ecg = torch.randn(batch, 3, 224, 224), torch.rand(batch, 12, 1000) * 2 - 1
    numbers = torch.randint(10, ROBERTA_ROWS, (batch, 128))

    def loss() -> Tensor:
        _, x, _, e, t = net(image, ecg, numbers, torch.ones_like(numbers))
        total: Tensor = (criterion(t, x) + criterion(x, t)) / 2 + (criterion(t, e) + criterion(e, t)) / 2
        return total

    return _stepper(loss, torch.optim.AdamW(net.parameters(), lr=3e-5, weight_decay=0.1)), _count(net)


def _more_losses(checkout: Path) -> dict[str, tuple[float, float]]:
    from models.objectives.contrastive import multi_pair_info_nce

    t, x, e = (torch.randn(12, 16) for _ in range(3))
    criterion = _info_nce(0.02)
    theirs = (criterion(t, x) + criterion(x, t)) / 2 + (criterion(t, e) + criterion(e, t)) / 2
    towers = {"text": t, "image": x, "ecg": e}
    ours = multi_pair_info_nce(towers, [("text", "image"), ("text", "ecg")], torch.tensor(0.02)).total
    return {"two terms": (float(theirs), float(ours))}


# ---- Symile


def _symile(checkout: Path, batch: int) -> tuple[Step, int]:
    declare_torchvision()
    folder = checkout / "experiments"
    held = {name: sys.modules.pop(name) for name in ("datasets", "utils", "losses", "constants") if name in sys.modules}
    with _importing(folder):
        module = _from_file("symile_mimic_model", folder / "models" / "symile_mimic_model.py")
    sys.modules.update(held)
    net = module.SymileMIMICModel(
        pretrained=False, d=8192, loss_fn="symile", freeze_logit_scale=False, logit_scale_init=-12.0, negative_sampling="n_squared",
        lr=1e-4, weight_decay=0.01,
    ).train()  # fmt: skip
    labs_BP = torch.rand(batch, 50)
    data = [torch.randn(batch, 3, 320, 320), torch.rand(batch, 1, 5000, 12), labs_BP, (labs_BP > 0.3).float()]

    def loss() -> Tensor:
        c, e, labs, scale = net(data)
        total: Tensor = module.symile(c, e, labs, scale, "n_squared")
        return total

    return _stepper(loss, net.configure_optimizers()), _count(net)


def _symile_losses(checkout: Path) -> dict[str, tuple[float, float]]:
    from models.objectives.symile import mip_scores, symile_loss

    with _importing(checkout):
        package = importlib.import_module("symile")
    towers, scale = [torch.randn(8, 16) for _ in range(3)], torch.tensor(0.7)
    found = {}
    theirs = package.Symile(negative_sampling="n_squared")(towers, scale)
    found["n_squared"] = (float(theirs), float(symile_loss(towers, scale, "n_squared")))
    torch.manual_seed(5)
    theirs = package.Symile(negative_sampling="n")(towers, scale)
    torch.manual_seed(5)  # the published code draws an order for each anchor and each other modality, in this order
    drawn = [[torch.arange(8) if i == j else torch.randperm(8) for j in range(3)] for i in range(3)]
    orders = torch.stack([torch.stack(row) for row in drawn])
    found["n, same orders"] = (float(theirs), float(symile_loss(towers, scale, "n", orders)))
    scores = package.MIPSimilarity()(towers[2], [t.clone() for t in towers[:2]])
    found["largest MIP"] = (float(scores.max()), float(mip_scores(towers[:2], towers[2]).max()))
    return found


# ---- ECG-JEPA


def _jepa_network(checkout: Path, size: str) -> Any:
    """Its network; its packages bear the names of ours, which are put aside meanwhile."""
    names = ("models", "configs", "utils", "data")
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}
    with _importing(checkout):
        configs, module = importlib.import_module("configs"), importlib.import_module("models.JEPA")
    sys.modules.update(held)
    config = configs.pretrain.Config(**configs.load_config_file(checkout / "configs" / "pretrain" / f"{size}_all.yaml"))
    return module.JEPA(config, itertools.repeat(0.998), use_sdp_kernel=True)


def _jepa_masks(batch: int, share: float = 0.2) -> tuple[Tensor, Tensor]:
    from models.objectives.jepa import sample_masks

    return sample_masks("blocks", batch, 200, share, share, 10)


def _jepa(checkout: Path, batch: int) -> tuple[Step, int]:
    net = _jepa_network(checkout, "ViTS").train()
    signal, masks = torch.randn(batch, 12, 5000), _jepa_masks(batch)
    return _stepper(lambda: net(signal, *masks), net.get_optimizer()), _count(net)


def _jepa_losses(checkout: Path) -> dict[str, tuple[float, float]]:
    from models.objectives.jepa import jepa_loss
    from models.registry import create_method, get_spec

    theirs, ours = _jepa_network(checkout, "ViTXS"), create_method("ecg_jepa", get_spec("ecg_jepa").configure("vit_xs"))
    theirs.momentum_schedule = itertools.repeat(1.0)  # its forward pass would move the teacher
    pairs: list[tuple[Any, Any]] = [
        (theirs.encoder, ours.encoder),
        (theirs.target_encoder, ours.target),
        (theirs.predictor, ours.predictor),
    ]
    with torch.no_grad():
        for theirs_part, ours_part in pairs:
            own = dict(ours_part.named_parameters())
            for name, value in theirs_part.named_parameters():
                renamed = name.replace("patch_embed.proj", "embed").replace("registers", "register")
                value.copy_((own[renamed] + 0.02 * torch.randn_like(own[renamed])).view_as(value))
                own[renamed].copy_(value.view_as(own[renamed]))
        signal, (keep, hide) = torch.randn(2, 12, 5000), _jepa_masks(2)
        kept, target = ours.encoder(signal, keep)[:, 1:], ours.target(signal)[:, 1:]
        own_loss = jepa_loss(ours.predictor(kept[:, None], keep, hide)[:, 0], target.take_along_dim(hide[:, :, None], dim=1), "l1")
        return {"hidden patches": (float(theirs(signal, keep, hide)), float(own_loss))}


PEERS = {
    "merl": Peer(
        "repository",
        {**_BERT, "text_dropout": 0.1},
        8,  # its loss counts hits among five
        "whole step, reports of 256 tokens",
        _merl,
        _merl_losses,
    ),
    "melp": Peer(
        "code_resnet18",
        {**_BERT, "beats": 10},
        4,
        "whole step with its ResNet-18 ECG encoder, reports of 128 tokens; its wav2vec encoder needs a fairseq that Python 3.11 cannot import",
        _melp,
        _melp_losses,
    ),
    "more": Peer(
        "paper",
        {
            **{"text_weights": None, "text_vocabulary": ROBERTA_ROWS, "text_layers": 12, "text_heads": 12, "text_hidden": 3072},
            **{"text_max_tokens": 128, "text_pool": "mean_all", "dropkey_schedule": "constant"},
            **{"augment": False, "accumulate": 1},
        },
        2,
        "whole step, reports of 128 tokens, without its augmentation, which its data loader does",
        _more,
        _more_losses,
    ),
    "symile": Peer("mimic", {}, 4, "whole step of Symile-MIMIC, n_squared", _symile, _symile_losses),
    "ecg_jepa": Peer(
        "vit_s",
        {},
        8,
        "whole step of ViT-S, its teacher moved within; without drawing masks, which its data loader does",
        _jepa,
        _jepa_losses,
    ),
}
"""By method."""
