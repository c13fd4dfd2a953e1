"""PASE, the phoneme-aware speech encoder (Huang et al.), of which only the abstract is at hand.

The paper's, by its abstract: SE4Lip's audio path (STFT, GRU) and lip CNN; phoneme embeddings as alignment anchors; a
phoneme-level alignment module that fuses both modalities by cross attention, trained by a contrastive loss; a task of
prediction and reconstruction for robustness to noise and to a missing modality.

Ours, everything in detail: the sound's states and the lips' embedding are queries, the anchors keys and values of the
same attention; attention weights are pushed to the phone that the embedded encoder hears (no outside aligner), which
is the contrastive loss against anchors; what was attended to is added to each embedding before Eq. 5 and 6. For the
prediction, one modality of every window is hidden or noisy, the two are fused, the phone in the middle is predicted
through the anchors, and both clean embeddings are reconstructed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.contrastive.lip_clips import LIP_FRAMES
from encoders.contrastive.lip_encoder import stacked_pictures
from encoders.contrastive.losses import contrastive_loss, cosines, pair_accuracy
from encoders.contrastive.se4lip import Method, SE4Lip, StepResult
from encoders.contrastive.speech_paths import CNNPath, GRUPath, SpeechNetwork, SpeechSide
from encoders.contrastive.windows import WindowBatch
from encoders.phones import PHONES

PHONE_WEIGHT = 0.3
PREDICTION_WEIGHT = 0.3
RECONSTRUCTION_WEIGHT = 0.3
SOUND_NOISE = 0.7
"""Standard deviation of the noise on spectrogram rows, which have about unit variance."""
PICTURE_NOISE = 0.15
"""Of the noise on pictures, of full scale."""


@dataclass(frozen=True)
class AlignedQueries:
    """Embeddings that have looked at the anchors."""

    context: Tensor  # [..., size] mean of the anchors' values, weighted by attention
    phone_logits: Tensor  # [..., len(PHONES)] whose softmax is the attention


class PhonemeAlignment(nn.Module):
    """Cross attention from embeddings to one learned anchor per phone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.anchors = nn.Parameter(torch.randn(len(PHONES), size) / size**0.5)
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)  # a bias would add the same to all of a query's logits
        self.value = nn.Linear(size, size)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, queries: Tensor) -> AlignedQueries:
        """queries: [..., size]."""
        query = functional.normalize(self.query(queries), dim=-1, eps=1e-3)
        key = functional.normalize(self.key(self.anchors), dim=-1, eps=1e-3)
        logits = self.log_scale.exp() * (query @ key.T)
        return AlignedQueries(logits.softmax(dim=-1) @ self.value(self.anchors), logits)


class Reconstruction(nn.Module):
    """Both clean embeddings and a query for the anchors from two embeddings of which one may be missing."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.missing = nn.Parameter(torch.randn(2, size) / size**0.5)  # stands for hidden speech, hidden lips
        self.fused = nn.Linear(2 * size, size)
        self.speech = nn.Linear(size, size)
        self.lips = nn.Linear(size, size)

    def forward(self, speech: Tensor, lips: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused embedding, reconstructed speech and lip embeddings, [B, size] each.

        Args:
            speech, lips: [B, size].
            hidden: bool [B, 2]: whether the speech, whether the lips are hidden.
        """
        pair = torch.where(hidden[..., None], self.missing, torch.stack([speech, lips], dim=1))
        fused = functional.relu(self.fused(pair.flatten(1)))
        return fused, functional.relu(self.speech(fused)), functional.relu(self.lips(fused))


class AlignedSpeechSide(SpeechSide):
    """SE4Lip's speech side whose states look at the anchors. At work no phones need be known."""

    def __init__(self, path: GRUPath | CNNPath) -> None:
        super().__init__(path)
        self.alignment = PhonemeAlignment(path.size)

    def forward(self, sounds: Tensor) -> Tensor:
        """See `SpeechSide`; with what all states of the window attended to."""
        return self.with_phones(sounds)[0]

    def with_phones(self, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, size] and phone logits of the states [B, n, len(PHONES)]."""
        states = self.path.states(sounds)
        aligned = self.alignment(states)
        return functional.relu(states[:, -1] + aligned.context.mean(dim=1)), aligned.phone_logits


class PASE(SE4Lip):
    """SE4Lip with phone anchors, which both sides share."""

    method: Method = "pase"

    def __init__(self, inputs: int, network: SpeechNetwork, layers: int, size: int) -> None:
        super().__init__(inputs, network, layers, size)
        self.speech = AlignedSpeechSide(self.speech.path)
        self.reconstruction = Reconstruction(size)

    def embed_lips(self, lips: Tensor) -> Tensor:
        """See `SE4Lip.embed_lips`; with what they attended to."""
        return self._aligned_lips(stacked_pictures(lips))[0]

    def step(self, batch: WindowBatch, generator: torch.Generator) -> StepResult:
        """The loss of a batch; see the module's docstring for its parts."""
        corruption = Corruption.draw(len(batch.sounds), generator)
        noisy_sounds, noisy_lips = corruption.noisy_windows(batch, generator)
        pictures = stacked_pictures(batch.lips)
        count = len(pictures)
        lips, lip_logits = self._aligned_lips(torch.cat([pictures, noisy_lips]))
        speech, speech_logits = self.speech.with_phones(torch.cat([batch.sounds, noisy_sounds]))
        cosine = cosines(speech[:count], lips[:count])
        heard = functional.cross_entropy(
            speech_logits[:count].flatten(0, 1), _phones_of_states(batch.phones, speech_logits.shape[1]).flatten()
        )
        middle = batch.phones[:, LIP_FRAMES // 2]
        seen = functional.cross_entropy(lip_logits[:count], middle)
        predicted, reconstructed = self._prediction_losses(speech, lips, corruption, middle)
        loss = (
            contrastive_loss(cosine, batch.shifted)
            + PHONE_WEIGHT * (heard + seen)
            + PREDICTION_WEIGHT * predicted
            + RECONSTRUCTION_WEIGHT * reconstructed
        )
        return StepResult(loss, pair_accuracy(cosine, batch.shifted))

    def _aligned_lips(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, size] and phone logits [B, len(PHONES)]."""
        embedding = self.lips(pictures)
        aligned = self.speech.alignment(embedding)
        return functional.relu(embedding + aligned.context), aligned.phone_logits

    def _prediction_losses(
        self, speech: Tensor, lips: Tensor, corruption: Corruption, phones: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy of the phones [B] and 1 - cosine of the reconstructions; the first B embeddings are clean."""
        count = len(phones)
        corrupted_speech, corrupted_lips = corruption.replaced(speech, lips)
        fused, *rebuilt = self.reconstruction(corrupted_speech, corrupted_lips, corruption.hidden.to(speech.device))
        predicted = functional.cross_entropy(self.speech.alignment(fused).phone_logits, phones)
        clean = (speech[:count].detach(), lips[:count].detach())
        distance = [1.0 - functional.cosine_similarity(a, b, eps=1e-3) for a, b in zip(rebuilt, clean, strict=True)]
        return predicted, torch.stack(distance).mean()


@dataclass(frozen=True)
class Corruption:
    """What is done to B windows. CPU tensors."""

    hidden: Tensor  # bool [B, 2] speech, lips
    noisy: Tensor  # bool [B, 2]

    @classmethod
    def draw(cls, count: int, generator: torch.Generator) -> Corruption:
        """To every window one of four things: its speech or its lips are hidden or noisy."""
        kind = torch.randint(4, (count,), generator=generator)[:, None] == torch.arange(4)
        return cls(hidden=kind[:, :2], noisy=kind[:, 2:])

    def noisy_windows(self, batch: WindowBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sounds [Ns, W, D] and pictures [Nl, 15, H, W] of the windows that are to be noisy, with noise."""
        device = batch.sounds.device
        noisy = []
        clean = (batch.sounds[self.noisy[:, 0].to(device)], stacked_pictures(batch.lips[self.noisy[:, 1].to(device)]))
        for windows, deviation in zip(clean, (SOUND_NOISE, PICTURE_NOISE), strict=True):
            noise = torch.randn(windows.shape, generator=generator).to(device)
            noisy.append(windows + deviation * noise)
        return noisy[0], noisy[1]

    def replaced(self, speech: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, size] with the noisy windows' ones, which follow the B clean ones, in place."""
        count = len(self.noisy)
        results = []
        for embeddings, noisy in zip((speech, lips), self.noisy.T, strict=True):
            source = torch.arange(count)
            source[noisy] = count + torch.arange(int(noisy.sum()))
            results.append(embeddings[source.to(embeddings.device)])
        return results[0], results[1]


def _phones_of_states(phones: Tensor, states: int) -> Tensor:
    """Phones [B, n] of n states spread evenly over a window, from those of its pictures [B, LIP_FRAMES]."""
    place = ((torch.arange(states, device=phones.device) + 0.5) * (LIP_FRAMES / states)).long()
    return phones[:, place]
