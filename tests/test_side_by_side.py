"""Parts of a computation on two threads: the same values and gradients as one after the other."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from render.side_by_side import side_by_side


def parts(weights: list[nn.Parameter]) -> list:
    return [lambda x, y, weight=weight: (weight * x + y, (weight * y).sum()) for weight in weights]


def gradients(run, weights: list[nn.Parameter], inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    for tensor in (*weights, *inputs):
        tensor.grad = None
    results = [tensor for result in run(parts(weights), inputs) for tensor in result]
    sum((number + 1) * tensor.square().sum() for number, tensor in enumerate(results)).backward()
    return [tensor.detach() for tensor in results], [tensor.grad for tensor in (*weights, *inputs)]


def one_by_one(parts: list, inputs: list[Tensor]) -> list[tuple[Tensor, ...]]:
    return [part(*inputs) for part in parts]


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, False)])
def test_values_and_gradients_are_those_of_one_after_the_other(wanted: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(5)) for _ in range(3)]
    inputs = [torch.randn(5).requires_grad_(grad) for grad in wanted]
    for (seen, expected), tolerance in zip(
        zip(gradients(side_by_side, weights, inputs), gradients(one_by_one, weights, inputs), strict=True),
        (0, 1e-5),
        strict=True,
    ):
        for ours, theirs in zip(seen, expected, strict=True):
            if theirs is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_a_part_that_the_loss_does_not_ask_for_gets_no_gradient() -> None:
    weights = [nn.Parameter(torch.randn(5)) for _ in range(2)]
    (first, _), _ = side_by_side(parts(weights), [torch.randn(5), torch.randn(5)])
    first.sum().backward()
    assert weights[0].grad is not None
    assert weights[1].grad is None


def test_two_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)  # broken unless both parts are under way together

    def meet(_: Tensor) -> None:
        meeting.wait()

    def part(x: Tensor) -> tuple[Tensor]:
        meeting.wait()
        doubled = 2 * x
        doubled.register_hook(meet)
        return (doubled,)

    x = torch.ones(1, requires_grad=True)
    (first,), (second,) = side_by_side([part, part], [x])
    (first + second).backward()
    assert x.grad == 4


def test_what_a_part_raises_is_raised_here() -> None:
    def broken(x: Tensor) -> tuple[Tensor]:
        raise ValueError("a part's own")

    for order in ([broken, lambda x: (x,)], [lambda x: (x,), broken]):
        with pytest.raises(ValueError, match="a part's own"):
            side_by_side(order, [torch.ones(1, requires_grad=True)])


def test_frames_rendered_without_gradients_stay_on_the_callers_thread() -> None:
    threads: list[int] = []

    def part(x: Tensor) -> tuple[Tensor]:
        threads.append(threading.get_ident())
        return (x,)

    with torch.no_grad():
        side_by_side([part, part], [torch.ones(1)])
    assert threads == [threading.get_ident()] * 2
