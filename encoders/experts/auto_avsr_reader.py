"""Auto-AVSR as a reading expert: its weights, its view of our mouths, and what it reads in them.

No transcript is needed: what counts as said is what the same reader reads in the clip's own pictures, the likeliest
word piece at every step with repetitions and blanks taken out. Eq. 4 of TalkLip (Wang et al. 2023) is its CTC loss, per
word piece; the decoder's cross entropy, which the paper's reader has, would need that transcript.

The reader was trained on mouths that were cut out of whole frames by landmarks, grey, 96 x 96 px, of which it sees the
middle 88. Ours are cut from pictures of the lower face of 96 x 48 px, which costs something: they are blurred, being
drawn larger (1.3 times across, 1.7 times down); their place and proportions are those of a typical face rather than of
this one; and rows beyond the picture, a ninth at the top, repeat its border.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from encoders.acoustic.weights import WeightsFile, verify
from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH
from encoders.errors import FeatureUnavailableError
from encoders.experts.auto_avsr import BLANK, PICTURE_SIZE, AutoAvsr, AutoAvsrSizes
from encoders.experts.judged import JudgedMouths
from encoders.experts.reading import JudgedReading

MOUTH_CENTRE = (49.0, 20.0)
"""Where lips are in our pictures, px across and down: medians over four people..."""
MOUTH_VIEW = (66.0, 51.0)
"""...and how much around them is taken, px: 1.8 times the width of their lips (36 px), square on a typical face."""
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue (ITU-R BT.601)..."""
MEAN, SPREAD = 0.421, 0.165
"""...and what grey values are normalised by, as published."""


@dataclass(frozen=True)
class ConvertedWeights(WeightsFile):
    """A checkpoint that its publishers offer as a pickle, for download by hand: the user converts it once."""

    checkpoint: str = ""  # its name
    archived: bool = True  # nothing is fetched

    @property
    def remedy(self) -> str:
        """See `WeightsFile.remedy`."""
        convert = (
            "import torch, sys; from safetensors.torch import save_file; "
            "save_file({k: v.clone() for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
        )
        return (
            f"download {self.checkpoint} ({self.megabytes} MB) from {self.url} with any machine and convert it: "
            f'python -c "{convert}" {self.checkpoint} {self.path}'
        )


AUTO_AVSR = ConvertedWeights(
    "auto-avsr.safetensors",
    "https://github.com/mpc001/auto_avsr#model-zoo",
    "terms of the data sets it was trained on",
    955,
    checkpoint="vsr_trlrs2lrs3vox2avsp_base.pth",
)


class AutoAvsrReader(nn.Module):
    """Meets `reading.LipReader`."""

    def __init__(self, network: AutoAvsr) -> None:
        """network: is frozen."""
        super().__init__()
        self.network, self.size = network.eval().requires_grad_(False), network.sizes.size

    def read(self, judged: JudgedMouths) -> JudgedReading:
        """See `LipReader`. The error is zero where nothing can be read in the clip's own pictures."""
        context, logits = self.network(grey_mouths(judged.mouths))
        with torch.no_grad():
            said = without_repetitions(self.network(grey_mouths(judged.real))[1].argmax(dim=1))
        if not len(said):
            return JudgedReading(logits.sum() * 0, context)
        lengths = [torch.tensor(len(part)) for part in (logits, said)]
        return JudgedReading(functional.ctc_loss(logits.log_softmax(dim=1), said, *lengths, blank=BLANK), context)


def grey_mouths(mouths: Tensor) -> Tensor:
    """What Auto-AVSR sees of mouths [T, 3, LIP_HEIGHT, LIP_WIDTH] in [0, 1]: [T, PICTURE_SIZE, PICTURE_SIZE],
    normalised; differentiable."""
    grey = (mouths * mouths.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)
    along = (torch.arange(PICTURE_SIZE).to(mouths) + 0.5) / PICTURE_SIZE - 0.5
    sizes = (LIP_WIDTH, LIP_HEIGHT)
    across, down = (
        2 * (centre + view * along) / size - 1
        for centre, view, size in zip(MOUTH_CENTRE, MOUTH_VIEW, sizes, strict=True)
    )
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).expand(len(mouths), -1, -1, -1)
    cut = functional.grid_sample(grey, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (cut[:, 0] - MEAN) / SPREAD


def without_repetitions(symbols: Tensor) -> Tensor:
    """CTC's reading of symbols [T]: neighbours that are alike are one, blanks are none."""
    kept = torch.unique_consecutive(symbols)
    return kept[kept != BLANK]


def load_auto_avsr(file: WeightsFile = AUTO_AVSR) -> AutoAvsrReader:
    """The reader, on the CPU.

    Raises:
        FeatureUnavailableError: its weights are not here.
        EncoderWeightsError: they are damaged, not what they were, or those of something else.
    """
    if not file.is_present:
        raise FeatureUnavailableError(f"the weights of the reader 'auto-avsr' are not here: {file.remedy}")
    verify(file)
    try:
        with safe_open(file.path, framework="pt") as opened:
            names = [name for name in opened.keys() if not name.startswith("decoder.")]  # noqa: SIM118 - not a dict
            sizes = AutoAvsrSizes.of({name: opened.get_slice(name).get_shape() for name in names})
            state = {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError, KeyError, IndexError) as error:
        raise file.unusable(f"does not hold the weights of Auto-AVSR ({error})") from error
    with torch.device("meta"):
        network = AutoAvsr(sizes)
    for name, tensor in network.state_dict().items():
        if name not in state or state[name].shape != tensor.shape:
            found = list(state[name].shape) if name in state else "nothing"
            raise file.unusable(f"holds {found} under {name}, expected {list(tensor.shape)}")
    network.load_state_dict(state, strict=False, assign=True)
    return AutoAvsrReader(network.float())
