"""Lips that learn from pictures of driven mouths: on a made-up person whose lips follow what is heard exactly."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
import torch
from demo_clip_track import demo_track, finish
from test_lip_motion import FPS, talker
from tiny_head import CODES, INTRINSICS, LOWER_CODES, background, bones, painted_head
from torch import Tensor, nn

from encoders.contrastive.lip_clips import LIP_HEIGHT, LIP_WIDTH, LipClip
from encoders.experts.judged import JudgedMouths
from encoders.lip_motion import LipMotionPredictor
from render.mouth_view import MouthView, mouth_camera, render_mouths
from talkinghead.driven_fit import DrivenClip, DrivenConfig, WeightedExpert, fit_driven
from talkinghead.errors import UnjudgedClipError
from talkinghead.lip_clips import mouth_picture
from tools.expression import ExpressionTrack
from tools.metrics import pearson
from tools.tracked_clip import TorsoPoseTrack

FRAMES = 90
QUICK = DrivenConfig(steps=50, run=12, length=5, codes=0.0, lips_rate=1e-2)
PICTURES_ONLY: Sequence[WeightedExpert] = ()


@cache
def person() -> DrivenClip:
    """The lower codes are a function of the sound of which the regression knows nothing; the pictures show them."""
    made_up = talker(FRAMES)
    truth = np.tanh(made_up.heard[:, :LOWER_CODES]).astype(np.float32)
    predictor = LipMotionPredictor.fit(made_up.speech, truth, truth[:, 0])
    ignorant = {name: np.zeros_like(getattr(predictor, name)) for name in ("weights", "prior_map", "code_offset")}
    predictor = replace(predictor, **ignorant)
    onto = np.array([[1.6, 0, LIP_WIDTH / 2 - 1.6 * 32], [0, 1.4, LIP_HEIGHT / 2 - 1.4 * 42]])
    camera = mouth_camera(INTRINSICS, onto, (LIP_HEIGHT, LIP_WIDTH), torch.device("cpu"))
    behind = torch.from_numpy(mouth_picture(background(), onto, 2)).permute(2, 0, 1) / 255
    codes = torch.from_numpy(np.concatenate([truth, np.zeros((FRAMES, CODES - LOWER_CODES), np.float32)], axis=1))
    with torch.no_grad():
        drawn = render_mouths(painted_head(), [MouthView(bones(0), camera, behind)] * FRAMES, codes)
    mouths = (255 * drawn).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    clip = LipClip("person.mp4", "", FPS, np.zeros(FRAMES * 640, np.float32), mouths, np.ones(FRAMES, bool))
    pose = bones(0)
    turns, places = (np.repeat(part.numpy()[None], FRAMES, 0) for part in (pose.head_rotation, pose.head_translation))
    track = replace(
        demo_track(),
        head=replace(demo_track().head, rotations=turns, translations=places),
        torso=TorsoPoseTrack(np.repeat(pose.torso_rotation.numpy()[None], FRAMES, 0), places),
        expression=ExpressionTrack(*np.split(codes.numpy(), [LOWER_CODES], axis=1)),
        background=background(),
    )
    return DrivenClip(track, clip, np.repeat(onto[None], FRAMES, 0), predictor.hear(made_up.speech), predictor)


@dataclass
class Listening:
    """An expert that weighs nothing and remembers what it was shown."""

    seen: list[JudgedMouths] = field(default_factory=list)
    steps: int = 0
    gain: nn.Parameter = field(default_factory=lambda: nn.Parameter(torch.ones(())))

    def loss(self, judged: JudgedMouths, generator: torch.Generator) -> Tensor:
        self.seen.append(judged)
        return self.gain

    def learned(self) -> Sequence[nn.Parameter]:
        return [self.gain]

    def learn(self, judged: JudgedMouths) -> None:
        assert judged is self.seen[-1]
        self.steps += 1


def likeness(predictor: LipMotionPredictor) -> float:
    """How well the first code follows the truth."""
    predicted = predictor.predict(talker(FRAMES).speech)[:, 0]
    return pearson(predicted, person().track.expression.lower[:, 0])


def test_lips_learn_from_pictures_alone_what_the_regression_does_not_know() -> None:
    clip, model = person(), painted_head()
    assert np.ptp(clip.predictor.predict(talker(FRAMES).speech)[:, 0]) < 1e-6
    learned = finish(fit_driven(clip, model, PICTURES_ONLY, QUICK, 0))
    assert likeness(learned) > 0.8


def test_only_motion_fields_of_face_and_mouth_change_and_the_same_seed_gives_the_same() -> None:
    clip, model = person(), painted_head()
    before = copy.deepcopy(model.state_dict())
    config = replace(QUICK, steps=4)
    first = finish(fit_driven(clip, model, PICTURES_ONLY, config, 3))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith(("face.field.", "mouth.field.")) for name in changed)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    again = finish(fit_driven(clip, painted_head(), PICTURES_ONLY, config, 3))
    for name, tensor in first.residual.state_dict().items():
        assert torch.equal(tensor, again.residual.state_dict()[name])
    other = finish(fit_driven(clip, painted_head(), PICTURES_ONLY, config, 4))
    assert not torch.equal(first.residual.hear.weight, other.residual.hear.weight)


def test_experts_see_rendered_stretches_among_real_frames_and_learn_beside() -> None:
    clip, expert = person(), Listening()
    config = replace(QUICK, steps=6)
    finish(fit_driven(clip, painted_head(), [WeightedExpert(expert, 0.5)], config, 0))
    assert expert.steps == len(expert.seen) == 6 and expert.gain < 1
    for judged in expert.seen:
        assert judged.mouths.shape == judged.real.shape == (config.run, 3, LIP_HEIGHT, LIP_WIDTH)
        np.testing.assert_array_equal(np.diff(judged.frames), 1)
        expected = torch.from_numpy(clip.lips.mouths[judged.frames]).permute(0, 3, 1, 2) / 255
        assert torch.equal(judged.real, expected)
        assert torch.equal(judged.mouths[~judged.rendered], expected[~judged.rendered])
        assert (judged.mouths - judged.real)[judged.rendered].abs().amax() > 0.02
        stretches = "".join("x" if shown else " " for shown in judged.rendered).split()
        assert stretches and min(map(len, stretches)) >= config.length
        assert judged.heard.requires_grad and judged.mouths.requires_grad


def test_a_clip_in_which_the_face_comes_and_goes() -> None:
    clip = person()
    seen = np.arange(FRAMES) % QUICK.run != 0
    flickering = replace(clip, lips=replace(clip.lips, seen=seen))
    with pytest.raises(UnjudgedClipError, match="12 frames with a face on end"):
        finish(fit_driven(flickering, painted_head(), PICTURES_ONLY, QUICK, 0))
