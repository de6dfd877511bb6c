"""Scans in torch alone, many steps at once: for GPUs, and for types that the compiled loops do not take.

The pairs of a step combine as (a1, b1) * (a2, b2) = (a1 a2, a2 b1 + b2), which is associative, so that log2 L passes do what a loop
does in L (Hillis and Steele, 1986; for state spaces Smith et al. 2022, arXiv 2208.04933).

Letters: B records, L steps, D channels, N states of a channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 128
"""Steps whose (B, CHUNK, D, N) are held at a time."""


def scan_parallel(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t along the second axis, h_0 = 0; of any length."""
    reach = 1
    while reach < b.shape[1]:
        b = torch.cat([b[:, :reach], torch.addcmul(b[:, reach:], a[:, reach:], b[:, :-reach])], dim=1)
        a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], dim=1)
        reach *= 2
    return b


def scan_parallel_back(a: Tensor, h: Tensor, grad_h: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a and b of `scan_parallel` from those of h: s_t = dL/dh_t + a_{t+1} s_{t+1} is b's, s_t h_{t-1} is a's."""
    ahead = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    s = scan_parallel(ahead.flip(1), grad_h.flip(1)).flip(1)
    return torch.cat([torch.zeros_like(s[:, :1]), s[:, 1:] * h[:, :-1]], dim=1), s


def selective_parallel(
    u_BLD: Tensor, delta_BLD: Tensor, a_DN: Tensor, b_BLN: Tensor, c_BLN: Tensor, skip_D: Tensor
) -> tuple[Tensor, Tensor]:
    """A selective scan (B, L, D), a chunk of steps after the other, and the states before each chunk."""
    B, L, D = u_BLD.shape
    state_BDN = u_BLD.new_zeros(B, D, a_DN.shape[1])
    outputs, states = [], []
    for start in range(0, L, CHUNK):
        part = slice(start, start + CHUNK)
        states.append(state_BDN)
        _, h_BTDN = _chunk(u_BLD[:, part], delta_BLD[:, part], a_DN, b_BLN[:, part], state_BDN)
        outputs.append(torch.einsum("btdn,btn->btd", h_BTDN, c_BLN[:, part]))
        state_BDN = h_BTDN[:, -1]
    return torch.cat(outputs, dim=1) + skip_D * u_BLD, torch.stack(states, dim=1)


def selective_parallel_back(
    grad_y_BLD: Tensor,
    u_BLD: Tensor,
    delta_BLD: Tensor,
    a_DN: Tensor,
    b_BLN: Tensor,
    c_BLN: Tensor,
    skip_D: Tensor,
    states_BKDN: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of the six inputs of `selective_parallel`; each chunk is run forward again from the state before it."""
    found = [torch.empty_like(x) for x in (u_BLD, delta_BLD, b_BLN, c_BLN)]
    grad_u_BLD, grad_delta_BLD, grad_b_BLN, grad_c_BLN = found
    grad_a_DN = torch.zeros_like(a_DN)
    asked_BDN = torch.zeros_like(states_BKDN[:, 0])
    for chunk in reversed(range(states_BKDN.shape[1])):
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        u, delta, b, c, g = (x[:, part] for x in (u_BLD, delta_BLD, b_BLN, c_BLN, grad_y_BLD))
        before_BDN = states_BKDN[:, chunk]
        decay_BTDN, h_BTDN = _chunk(u, delta, a_DN, b, before_BDN)
        grad_c_BLN[:, part] = torch.einsum("btd,btdn->btn", g, h_BTDN)
        grad_h_BTDN = g[..., None] * c[:, :, None]
        grad_h_BTDN[:, -1] += asked_BDN
        _, s_BTDN = scan_parallel_back(decay_BTDN, h_BTDN, grad_h_BTDN)
        asked_BDN = decay_BTDN[:, 0] * s_BTDN[:, 0]
        by_rate_BTDN = s_BTDN * torch.cat([before_BDN[:, None], h_BTDN[:, :-1]], dim=1) * decay_BTDN
        by_b_BTD = torch.einsum("btdn,btn->btd", s_BTDN, b)
        grad_a_DN += torch.einsum("btdn,btd->dn", by_rate_BTDN, delta)
        grad_b_BLN[:, part] = torch.einsum("btdn,btd->btn", s_BTDN, delta * u)
        grad_u_BLD[:, part] = g * skip_D + by_b_BTD * delta
        grad_delta_BLD[:, part] = by_b_BTD * u + torch.einsum("btdn,dn->btd", by_rate_BTDN, a_DN)
    return grad_u_BLD, grad_delta_BLD, grad_a_DN, grad_b_BLN, grad_c_BLN, (grad_y_BLD * u_BLD).sum(dim=(0, 1))


def _chunk(u_BTD: Tensor, delta_BTD: Tensor, a_DN: Tensor, b_BTN: Tensor, before_BDN: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states (B, T, D, N) of a chunk that starts from a state."""
    decay_BTDN = torch.exp(delta_BTD[..., None] * a_DN)
    x_BTDN = (delta_BTD * u_BTD)[..., None] * b_BTN[:, :, None]
    x_BTDN[:, 0] += decay_BTDN[:, 0] * before_BDN
    return decay_BTDN, scan_parallel(decay_BTDN, x_BTDN)
