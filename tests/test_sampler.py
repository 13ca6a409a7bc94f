"""Choosing the next token: distributions worked out by hand, and draws counted against them."""

import itertools

import numpy as np
import pytest

from neo_keras.errors import InputError
from neo_keras.generation.sampler import GREEDY, Sampler, penalized

# Tokens of weight 2, 8, 1, 4, 1 sixteenths.
WEIGHTS = np.array([2, 8, 1, 4, 1]) / 16
LOGITS = np.log(WEIGHTS)


def distribution(sampler, logits=LOGITS):
    probabilities = sampler.probabilities(logits)
    assert probabilities.dtype == np.float64
    return probabilities / probabilities.sum()


def sixteenths(*kept):
    """The distribution when only these tokens are kept."""
    weights = np.where(np.isin(np.arange(5), kept), WEIGHTS, 0)
    return weights / weights.sum()


def test_without_cuts_it_is_the_softmax():
    np.testing.assert_allclose(distribution(Sampler()), WEIGHTS, rtol=1e-12)
    shifted = distribution(Sampler(), LOGITS + 1000)
    np.testing.assert_allclose(shifted, WEIGHTS, rtol=1e-9)


def test_temperature_raises_weights_to_a_power():
    # At 1/2 the weights are squared: 4, 64, 1, 16, 1; at 2 they are square roots.
    cold = distribution(Sampler(temperature=0.5))
    np.testing.assert_allclose(cold, np.array([4, 64, 1, 16, 1]) / 86, rtol=1e-12)
    hot = distribution(Sampler(temperature=2.0))
    np.testing.assert_allclose(hot, np.sqrt(WEIGHTS) / np.sqrt(WEIGHTS).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("top_k", "kept"),
    [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (5, range(5)), (6, range(5)), (1000, range(5))],
)
def test_top_k(top_k, kept):
    np.testing.assert_allclose(distribution(Sampler(top_k=top_k)), sixteenths(*kept), rtol=1e-12)


def test_top_k_among_ties_keeps_exactly_k_the_first_ones():
    # Tokens 2 and 4 tie for the fourth place.
    np.testing.assert_allclose(distribution(Sampler(top_k=4)), sixteenths(0, 1, 2, 3), rtol=1e-12)
    np.testing.assert_array_equal(distribution(Sampler(top_k=2), [3.0, 3.0, 3.0]), [0.5, 0.5, 0])


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-9, [1]),  # never nothing
        (0.49, [1]),
        (0.51, [1, 3]),
        (0.74, [1, 3]),
        (0.76, [0, 1, 3]),
        (0.88, [0, 1, 2, 3]),  # of the tied last two, the first
        (0.94, range(5)),
        (1, range(5)),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_p(top_p, kept):
    np.testing.assert_allclose(distribution(Sampler(top_p=top_p)), sixteenths(*kept), rtol=1e-12)


def test_top_p_that_is_reached_exactly_needs_no_more():
    # Equal logits: probabilities of exactly 1/4.
    for top_p, kept in ((0.25, 1), (0.5, 2), (0.75, 3)):
        probabilities = distribution(Sampler(top_p=top_p), np.zeros(4))
        assert probabilities.tolist() == [1 / kept] * kept + [0] * (4 - kept)


@pytest.mark.parametrize(
    ("min_p", "kept"),
    [(0, range(5)), (0.12, range(5)), (0.13, [0, 1, 3]), (0.24, [0, 1, 3]), (0.26, [1, 3]),
     (0.51, [1]), (1, [1])],
)  # fmt: skip
def test_min_p_is_a_share_of_the_likeliest(min_p, kept):
    # Shares of the likeliest token: 1/4, 1, 1/8, 1/2, 1/8.
    np.testing.assert_allclose(distribution(Sampler(min_p=min_p)), sixteenths(*kept), rtol=1e-12)


def test_min_p_keeps_all_that_tie():
    assert distribution(Sampler(min_p=1), [2.0, 2.0, 1.0]).tolist() == [0.5, 0.5, 0]


def test_the_cuts_apply_in_order():
    # After top-k 2 the kept weights are 8 and 4: the first alone has 8/12 = 0.667 of them, so a
    # top-p of 0.6 cuts the second. Before top-k it would have had 0.5, and kept both.
    both = Sampler(top_k=2, top_p=0.6)
    np.testing.assert_allclose(distribution(both), sixteenths(1), rtol=1e-12)
    np.testing.assert_allclose(distribution(Sampler(top_p=0.6)), sixteenths(1, 3), rtol=1e-12)


def test_top_p_comes_before_min_p():
    # Weights 10, 5, 4, 1 of 20: top-p 0.6 keeps 10 and 5, and so does min-p 0.45 after it.
    # Min-p first would leave 10 and 5, of which 10 has 0.667: top-p would keep it alone.
    sampler = Sampler(top_p=0.6, min_p=0.45)
    expected = [2 / 3, 1 / 3, 0, 0]
    np.testing.assert_allclose(distribution(sampler, np.log([10, 5, 4, 1])), expected, rtol=1e-12)


def test_temperature_comes_before_the_cuts():
    # At temperature 1/2: 4, 64, 1, 16, 1 of 86. The likeliest has 0.74, without it 0.5.
    np.testing.assert_allclose(
        distribution(Sampler(temperature=0.5, top_p=0.7)), sixteenths(1), rtol=1e-12
    )


def test_greedy_takes_the_likeliest():
    for seed, step in itertools.product(range(9), range(9)):
        assert GREEDY.sample(LOGITS, seed, step) == 1
        assert GREEDY.sample(np.array([1.0, 7.0, 7.0]), seed, step) == 1  # of a tie, the first
        assert Sampler(0, top_k=3, top_p=0.1, min_p=0.5).sample(LOGITS, seed, step) == 1
    assert type(GREEDY.sample(LOGITS.astype("float32"), 0, 0)) is int


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Sampler(), WEIGHTS),
        (Sampler(temperature=0.5), np.array([4, 64, 1, 16, 1]) / 86),
        (Sampler(top_k=3), np.array([2, 8, 0, 4, 0]) / 14),
        (Sampler(top_p=0.9), np.array([2, 8, 1, 4, 0]) / 15),
        (Sampler(min_p=0.3), np.array([0, 8, 0, 4, 0]) / 12),
    ],
)
def test_draws_follow_the_distribution(sampler, expected):
    num_draws = 100_000
    seeds = [0, 1, 13, 2**32 - 1]
    draws = [sampler.sample(LOGITS, seed, n) for seed in seeds for n in range(num_draws // 4)]
    assert type(draws[0]) is int
    counts = np.bincount(draws, minlength=5)
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts - num_draws * expected)[kept] ** 2 / (num_draws * expected[kept])).sum()
    # What chance exceeds once in a thousand, by degrees of freedom.
    assert chi_square < {4: 18.47, 3: 16.27, 2: 13.82, 1: 10.83}[kept.sum() - 1]


def reference(logits, sampler):
    """The distribution, with sets of tokens and sums in plain Python: float64 throughout."""
    weights = {t: np.exp(x / sampler.temperature) for t, x in enumerate(map(float, logits))}
    order = sorted(weights, key=lambda t: (-weights[t], t))
    if sampler.top_k is not None:
        order = order[: sampler.top_k]
    if sampler.top_p is not None:
        total = sum(weights[t] for t in order)
        reached = itertools.accumulate(weights[t] / total for t in order)
        order = order[: 1 + sum(r < sampler.top_p for r in reached)]
    if sampler.min_p is not None:
        order = [t for t in order if weights[t] >= sampler.min_p * weights[order[0]]]
    total = sum(weights[t] for t in order)
    return np.array([weights[t] / total if t in order else 0.0 for t in weights])


@pytest.mark.parametrize("seed", range(40))
def test_against_a_plain_implementation(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 31)
    sampler = Sampler(
        temperature=rng.choice([0.3, 1.0, 1.7]),
        top_k=rng.choice([None, 3, 17]),
        top_p=rng.choice([None, 0.31, 0.93]),
        min_p=rng.choice([None, 0.01, 0.19]),
    )
    expected = reference(logits, sampler)
    np.testing.assert_allclose(distribution(sampler, logits), expected, rtol=1e-10)


def test_the_penalty_on_repetition():
    logits = np.array([3.0, -2.0, 0.0, 5.0, -np.inf, 1.0], "float32")
    changed = penalized(logits, [3, 1, 3, 3, 2, 4], 2.0)
    assert changed.tolist() == [3.0, -4.0, 0.0, 2.5, -np.inf, 1.0]  # how often does not matter
    assert penalized(logits, [0, 1], 0.5).tolist() == [6.0, -1.0, 0.0, 5.0, -np.inf, 1.0]
    assert logits.tolist() == [3.0, -2.0, 0.0, 5.0, -np.inf, 1.0]  # left alone
    assert penalized(logits, [], 2.0).tolist() == logits.tolist()
    assert changed.dtype == np.float32


def test_a_draw_is_a_function_of_seed_and_step():
    draws = [[Sampler().sample(LOGITS, seed, step) for step in range(50)] for seed in range(20)]
    assert draws == [[Sampler().sample(LOGITS, s, n) for n in range(50)] for s in range(20)]
    assert len(set(map(tuple, draws))) == 20
    # One seed's draws are not another's, some steps later.
    shifted = {tuple(row[k : k + 40]) for row in draws for k in range(11)}
    assert len(shifted) == 20 * 11


def test_what_is_cut_is_never_drawn():
    for num_tokens, seed in itertools.product((3, 13, 97), range(200)):
        logits = np.random.default_rng(seed).normal(size=num_tokens) * 3
        logits[[0, -1]] = -np.inf
        assert 0 < Sampler(temperature=9.0).sample(logits, seed, num_tokens) < num_tokens - 1


@pytest.mark.parametrize("temperature", [1e-3, 1e3, 1e-310])
def test_extreme_temperatures_are_finite(temperature):
    logits = np.array([-300.0, 250.0, -np.inf, 249.0, 11.0], "float32")
    with np.errstate(all="raise", under="ignore"):
        probabilities = distribution(Sampler(temperature), logits)
    assert np.isfinite(probabilities).all()
    assert probabilities[2] == 0
    if temperature < 1:
        assert probabilities.tolist() == [0, 1, 0, 0, 0]
    else:  # exp(-550 / 1000) at most apart
        assert 0.576 < probabilities[0] / probabilities[1] < 0.577


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperature", value) for value in (-0.1, float("inf"), float("nan"))),
        *(("top_k", value) for value in (0, -1)),
        *(("top_p", value) for value in (0, -0.1, 1.01, float("nan"))),
        *(("min_p", value) for value in (-0.01, 1.01, float("nan"))),
        *(("repetition_penalty", value) for value in (0, -1.5, float("inf"), float("nan"))),
    ],
)
def test_values_out_of_range(field, value):
    with pytest.raises(
        InputError, match=f"^{field.replace('_', '-')} must be .*, got {value}( |$)"
    ):
        Sampler(**{field: value})


def test_values_at_the_end_of_their_range():
    Sampler(temperature=0, top_k=1, top_p=1, min_p=0)
    Sampler(min_p=1)
