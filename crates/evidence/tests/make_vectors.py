#!/usr/bin/env python3
"""Writes vectors.json: what the formulas of tidegate-evidence give, computed from their definitions with mpmath, scipy and
numpy, independently of the Rust code. Run: python3 make_vectors.py > vectors.json (mpmath 1.3, numpy 2, scipy 1.14 or
later)."""
import itertools
import json
import random

import mpmath as mp
import numpy as np
from scipy import optimize, stats

mp.mp.dps = 50
draw = random.Random(20261123)
GRID = [mp.mpf(r) for r in ("1.25", "1.5", "2", "3", "5", "10", "20")]
TILTS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]


def chance(w, r):
    return w * r / (w * r + 1 - w)


def likelihood(events, r):
    product = mp.mpf(1)
    for w, candidate in events:
        p = chance(mp.mpf(w), r)
        product *= p if candidate else 1 - p
    return product


def arm_of_event():
    cases = []
    for tolerance, shares, lift in [("1.0", [0.1], 1), ("1.1", [0.01, 0.05, 0.25, 0.5], 1), ("1.5", [0.1, 0.5], 4), ("1.0", [0.3], 0.1)]:
        events = []
        for i in range(60):
            w = shares[i * len(shares) // 60]
            events.append((w, draw.random() < float(chance(w, lift))))
        r0 = mp.mpf(tolerance)
        bets = [r for r in GRID if r > r0]
        whole = sum(likelihood(events, r) for r in bets) / likelihood(events, r0) / len(bets)
        # The detector by its definition: a sum over the starts of bets.
        detector = sum(
            sum(likelihood(events[j:], r) / likelihood(events[j:], r0) for j in range(len(events))) for r in bets
        ) / len(bets)
        both = [g for r in GRID for g in (r, 1 / r)] + [mp.mpf(1)]
        mixture = sum(likelihood(events, r) for r in both) / len(both)
        s = sum(c for _, c in events)
        excess = lambda t: float(mp.log(mixture) - mp.log(likelihood(events, mp.e ** mp.mpf(t))) - mp.log(20))
        expected = lambda t: float(sum(chance(mp.mpf(w), mp.e ** mp.mpf(t)) for w, _ in events)) - s
        best = optimize.brentq(expected, -12, 12)
        cases.append({
            "tolerance": float(r0), "events": [[w, bool(c)] for w, c in events],
            "ln_whole": float(mp.log(whole)), "ln_detector": float(mp.log(detector)),
            "lower": float(np.exp(optimize.brentq(excess, -13.9, best))),
            "estimate": float(np.exp(best)),
            "upper": float(np.exp(optimize.brentq(excess, best, 13.9))),
        })
    return cases


def sample_ratio():
    """Constant weight: the conjugate form B(a+s, b+n-s) / (B(a,b) w^s (1-w)^(n-s)), (a, b) = 100 (w, 1-w)."""
    cases = []
    for w, n, s in [(0.1, 194, 0), (0.1, 193, 0), (0.1, 60, 30), (0.5, 1000, 480), (0.01, 3000, 35)]:
        a, b = 100 * mp.mpf(w), 100 * (1 - mp.mpf(w))
        value = mp.beta(a + s, b + n - s) / (mp.beta(a, b) * mp.mpf(w) ** s * (1 - mp.mpf(w)) ** (n - s))
        cases.append({"w": w, "n": n, "s": s, "ln_e": float(mp.log(value))})
    return cases


def share_bounds():
    cases = []
    for s, n, a, b, alpha in [(0, 50, 1, 50, 0.025), (3, 559, 1, 50, 0.025), (29, 2916, 1, 50, 0.025), (80, 7993, 1, 50, 0.025), (200, 1000, 1, 4, 0.05), (5, 5, 1, 50, 0.05)]:
        a_, b_ = mp.mpf(a), mp.mpf(b)
        mixture = mp.log(mp.beta(a_ + s, b_ + n - s)) - mp.log(mp.beta(a_, b_)) - mp.log(1 / mp.mpf(alpha))

        def excess(p):
            p = mp.mpf(p)
            return float(mixture - (s * mp.log(p) if s else 0) - ((n - s) * mp.log(1 - p) if n > s else 0))

        lower = optimize.brentq(excess, 1e-12, s / n) if s else 0.0
        upper = optimize.brentq(excess, max(s / n, 1e-12), 1 - 1e-12) if s < n else 1.0
        cases.append({"events": s, "trials": n, "a": a, "b": b, "alpha": alpha, "lower": lower, "upper": upper})
    return cases


def one_sided():
    """The evidence as the integral it stands for: a bet on each drift, mixed by a half-normal of variance 1/rho."""
    cases = []
    for s, v, rho in [(10.0, 100.0, 31.6), (-20.0, 100.0, 31.6), (40.0, 200.0, 12.0), (0.5, 3.0, 5.0), (-60.0, 50.0, 4.0)]:
        density = lambda l: 2 * mp.npdf(l, 0, 1 / mp.sqrt(mp.mpf(rho))) * mp.exp(l * s - l * l * v / 2)
        centre = max(mp.mpf(0), mp.mpf(s) / (mp.mpf(v) + rho))
        width = 1 / mp.sqrt(mp.mpf(v) + rho)
        points = [0, centre / 2, centre, centre + 4 * width, centre + 12 * width, centre + 40 * width]
        value = mp.quad(density, [0] + [p for p in points[1:] if p > 0])
        cases.append({"sum": s, "variance": v, "rho": rho, "ln_e": float(mp.log(value))})
    return cases


def normal_tail():
    return [[z, float(mp.log(mp.ncdf(mp.mpf(z))))] for z in (3.0, 0.0, -1.0, -8.0, -29.0, -31.0, -60.0)]


def betting():
    values = [round(min(1.0, max(0.0, draw.gauss(0.6, 0.2))), 3) for _ in range(120)]
    alpha, m = 0.05, np.linspace(0, 1, 401)
    up, down, out = np.ones_like(m), np.ones_like(m), np.zeros_like(m, dtype=bool)
    squares, total = 0.25, 0.5
    for i, x in enumerate(values, start=1):
        sigma2 = squares / i
        bet = np.sqrt(2 * np.log(2 / alpha) / (sigma2 * i * np.log(1 + i)))
        with np.errstate(divide="ignore"):
            up = up * (1 + np.minimum(bet, 0.5 / m) * (x - m))
            down = down * (1 - np.minimum(bet, 0.5 / (1 - m)) * (x - m))
        out |= np.maximum(up / 2, down / 2) >= 1 / alpha
        total += x
        squares += (x - total / (i + 1)) ** 2
    kept = m[~out]
    return {"alpha": alpha, "values": values, "lower": float(kept.min() - 1 / 400), "upper": float(kept.max() + 1 / 400)}


def blocks():
    """Weight of the choice over the mean weight of all choices, by going through all of them."""
    cases = []
    for size, chosen in [(6, 1), (6, 3), (9, 2), (12, 1), (8, 7)]:
        scores = [draw.gauss(0, 1) for _ in range(size)]
        picked = sorted(draw.sample(range(size), chosen))
        factors = []
        for tilt in TILTS:
            weights = [np.exp(tilt * sum(scores[i] for i in c)) for c in itertools.combinations(range(size), chosen)]
            factors.append(float(np.log(np.exp(tilt * sum(scores[i] for i in picked)) / np.mean(weights))))
        cases.append({"scores": scores, "picked": picked, "ln_factors": factors})
    return cases


def tails():
    fisher = [[u, f, su, sf, float(stats.hypergeom.logsf(f - 1, u + su, f + sf, u))]
              for u, f, su, sf in [(5, 5, 45, 0), (10, 5, 190, 2), (10, 10, 10, 10), (80, 40, 9, 0), (10, 5, 190, 9)]]
    binomial = [[n, k, p, float(stats.binom.logsf(k - 1, n, p))] for n, k, p in [(10, 5, 0.01), (10, 7, 0.05), (20, 20, 0.3)]]
    return {"fisher": fisher, "binomial": binomial}


print(json.dumps({
    "arm_of_event": arm_of_event(), "sample_ratio": sample_ratio(), "share_bounds": share_bounds(),
    "one_sided": one_sided(), "normal_tail": normal_tail(), "betting": betting(), "blocks": blocks(), "tails": tails(),
}, indent=1))
