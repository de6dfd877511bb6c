"""Structured state spaces over time (S4): Gu, Goel and Re 2021, arXiv 2111.00396; for ECGs Mehari and Strodthoff 2022, arXiv 2211.07579.

Every channel is a linear system x' = A x + B u, y = C x + D u, made discrete by the bilinear rule with a step of its own:

    x_k = Abar x_{k-1} + Bbar u_k,   Abar = (I - d/2 A)^-1 (I + d/2 A),   Bbar = (I - d/2 A)^-1 d B,

which is a convolution with K_k = C Abar^k Bbar. A starts as HiPPO-LegS, whose eigenvectors are those of a normal matrix once a
matrix of rank one is added: A = Lambda - P P*. With it the Fourier transform of K takes dot products with 1 / (g - Lambda) instead
of powers of a matrix (section 3 of the paper; `StateKernel` derives the form used here).

What follows the ECG paper's published code: 4 layers of width 512 with a state of 8, one linear map before them, kernels in both
directions, GELU, a position-wise gated map, dropout of whole channels, layer norm after the sum, mean over time. What does not: that
code leaves the step and A, B as they start, while S4 learns them and so do we; and P = Q with a real part of Lambda that stays
negative is the stable form of a later paper of S4's authors (Goel et al. 2022, "It's Raw!", arXiv 2202.09729).

Letters here: F channels, K kernels of a channel, S state, Z frequencies, T time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.shapes import S4Shape
from models.types import LEADS

STATE_PARAMETERS = ("log_step_F", "log_decay_FS", "frequency_FS", "low_rank_FS2", "input_FS2")
"""Parameters of a kernel that say how its state moves: S4's authors train them without weight decay."""

_STEPS = (0.001, 0.1)
"""Between these the steps of the channels start, evenly on a logarithmic scale."""


class S4(nn.Module):
    """State-space encoder of a 12-lead signal of any length; one token a sample.

    Attributes:
        width: F, channels.
    """

    def __init__(self, shape: S4Shape, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        self.width = shape.width
        self.embed = nn.Conv1d(n_leads, shape.width, 1)
        self.layers = nn.Sequential(*(_Layer(shape) for _ in range(shape.depth)))

    def forward(self, signal_BLT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, L, T); returns the sequence (B, T, F) and its mean over time (B, F)."""
        maps_BFT = self.layers(self.embed(signal_BLT))
        return maps_BFT.transpose(1, 2), maps_BFT.mean(dim=2)


class _Layer(nn.Module):
    def __init__(self, shape: S4Shape) -> None:
        super().__init__()
        self.kernel = StateKernel(shape.width, shape.state)
        self.skip_F = nn.Parameter(torch.randn(shape.width))
        self.dropout = nn.Dropout1d(shape.dropout)
        self.mix = nn.Conv1d(shape.width, 2 * shape.width, 1)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, x_BFT: Tensor) -> Tensor:
        seen_BFT = convolve_both_ways(x_BFT, self.kernel(x_BFT.shape[2])) + self.skip_F[:, None] * x_BFT
        mixed_BFT = functional.glu(self.mix(self.dropout(functional.gelu(seen_BFT))), dim=1)
        out_BTF: Tensor = self.norm((x_BFT + self.dropout(mixed_BFT)).transpose(1, 2))
        return out_BTF.transpose(1, 2)


def convolve_both_ways(signal_BFT: Tensor, kernel_KFT: Tensor) -> Tensor:
    """Convolve with two kernels: the first sees a sample and those before it, the second those after it; float32.

    y_t = sum_{j>=0} k0_j u_{t-j} + sum_{j>=0} k1_j u_{t+1+j}
    """
    T = signal_BFT.shape[2]
    with torch.autocast(signal_BFT.device.type, enabled=False):
        past_FT, future_FT = kernel_KFT.float()
        whole_FT = functional.pad(past_FT, (0, T)) + functional.pad(future_FT.flip(-1), (T, 0))
        product_BFZ = torch.fft.rfft(signal_BFT.float(), n=2 * T) * torch.fft.rfft(whole_FT)
        out_BFT: Tensor = torch.fft.irfft(product_BFZ, n=2 * T)[..., :T]
        return out_BFT


class StateKernel(nn.Module):
    """The kernels of F state spaces with K outputs each, for a convolution over any number of samples.

    Complex eigenvalues come in conjugate pairs, so one of each pair is stored (S = state / 2) and made whole when used. With
    t = 2 pi k / T, s = sin(t/2), c = cos(t/2), the transform of the first T samples of the kernel is

        K^(t) = d e^{it/2} [ r(C', B) - d c r(C', P) r(P*, B) / (1 + d c r(P*, P)) ],   r(x, y) = sum_n x_n y_n / (2 i s - d c Lambda_n)

    where C' = C (I - Abar^T) leaves out what the kernel does after T. It is the paper's form with its fractions expanded by cos(t/2),
    which takes away the pole at t = pi.
    """

    def __init__(self, width: int, state: int, n_kernels: int = 2) -> None:
        super().__init__()
        eigenvalue_S, low_rank_S, input_S = hippo_legs(state)
        half = state // 2
        low, high = (math.log(step) for step in _STEPS)
        self.log_step_F = nn.Parameter(low + (high - low) * torch.rand(width))
        self.log_decay_FS = nn.Parameter((-eigenvalue_S.real).log().float().repeat(width, 1))
        self.frequency_FS = nn.Parameter(eigenvalue_S.imag.float().repeat(width, 1))
        self.low_rank_FS2 = nn.Parameter(torch.view_as_real(low_rank_S).float().repeat(width, 1, 1))
        self.input_FS2 = nn.Parameter(torch.view_as_real(input_S).float().repeat(width, 1, 1))
        self.output_KFS2 = nn.Parameter(torch.randn(n_kernels, width, half, 2) * math.sqrt(0.5))

    def system(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Step (F), Lambda, P and B (F, S) and C (K, F, S) of the whole state, both of each pair; A = Lambda - P P*."""
        eigenvalue_FS = torch.complex(-self.log_decay_FS.exp(), self.frequency_FS)
        pairs = (eigenvalue_FS, *(torch.view_as_complex(p) for p in (self.low_rank_FS2, self.input_FS2, self.output_KFS2)))
        eigenvalue_FS, low_rank_FS, input_FS, output_KFS = (torch.cat([x, x.conj()], dim=-1) for x in pairs)
        return self.log_step_F.exp(), eigenvalue_FS, low_rank_FS, input_FS, output_KFS

    def forward(self, n_samples: int) -> Tensor:
        """Kernels (K, F, T), in float32 also under autocast."""
        with torch.autocast(self.log_step_F.device.type, enabled=False):
            step_F, eigenvalue_FS, low_rank_FS, input_FS, output_KFS = self.system()
            start_KFS = output_KFS - torch.einsum("kfs,fsr->kfr", output_KFS, self._transition(n_samples))
            angle_Z = torch.arange(n_samples // 2 + 1, dtype=step_F.dtype, device=step_F.device) * (math.pi / n_samples)
            step_FZ = step_F[:, None] * angle_Z.cos()
            pole_FSZ = 2j * angle_Z.sin() - step_FZ[:, None] * eigenvalue_FS[:, :, None]
            # All the sums r(x, y) at once: x one of C' or P*, y one of B or P.
            left_FXS = torch.cat([start_KFS, low_rank_FS.conj()[None]]).transpose(0, 1)
            both_FXYS = left_FXS[:, :, None] * torch.stack([input_FS, low_rank_FS], dim=1)[:, None]
            sums_FVZ = both_FXYS.flatten(1, 2) @ pole_FSZ.reciprocal()
            with_input_FXZ, with_low_rank_FXZ = sums_FVZ[:, 0::2], sums_FVZ[:, 1::2]
            through_FZ = step_FZ * with_input_FXZ[:, -1] / (1 + step_FZ * with_low_rank_FXZ[:, -1])
            inner_FKZ = with_input_FXZ[:, :-1] - with_low_rank_FXZ[:, :-1] * through_FZ[:, None]
            turned_FKZ = step_F[:, None, None] * torch.exp(1j * angle_Z) * inner_FKZ
            kernel_FKT: Tensor = torch.fft.irfft(turned_FKZ, n=n_samples)
            return kernel_FKT.transpose(0, 1)

    def _transition(self, n_steps: int) -> Tensor:
        """What the state becomes by itself in so many steps, Abar^n (F, S, S)."""
        step_F, eigenvalue_FS, low_rank_FS, _, _ = self.system()
        a_FSS = torch.diag_embed(eigenvalue_FS) - low_rank_FS[:, :, None] * low_rank_FS.conj()[:, None]
        half_FSS = step_F[:, None, None] / 2 * a_FSS
        one_SS = torch.eye(half_FSS.shape[1], dtype=half_FSS.dtype, device=half_FSS.device)
        power_FSS: Tensor = torch.linalg.matrix_power(torch.linalg.solve(one_SS - half_FSS, one_SS + half_FSS), n_steps)
        return power_FSS


def hippo_legs(state: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS as normal plus low rank, in the basis of its eigenvectors: Lambda, P and B, one of each conjugate pair.

    A_nk = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it, 0 above; B_n = sqrt(2n+1); P_n = sqrt(n+1/2). A + P P^T is
    -I/2 plus a skew-symmetric matrix, so that Lambda has real part -1/2 and V, its eigenvectors, are unitary.

    Returns:
        Lambda, V* P and V* B, complex128, each of shape (state / 2,), with positive imaginary parts of Lambda.
    """
    number_S = torch.arange(state, dtype=torch.float64)
    low_rank_S = (number_S + 0.5).sqrt()
    # Half of the sum with P P^T is below the diagonal -P P^T and above it P P^T.
    product_SS = torch.outer(low_rank_S, low_rank_S)
    skew_SS = product_SS.triu(1) - product_SS.tril(-1)
    frequency_S, vectors_SS = torch.linalg.eigh(torch.complex(torch.zeros_like(skew_SS), -skew_SS))
    chosen = frequency_S > 0
    frequency_S, vectors_SS = frequency_S[chosen], vectors_SS[:, chosen]
    turned = vectors_SS.conj().T
    real_S = torch.full_like(frequency_S, -0.5)
    complex_S = torch.complex(low_rank_S, torch.zeros_like(low_rank_S))
    return torch.complex(real_S, frequency_S), turned @ complex_S, turned @ (math.sqrt(2) * complex_S)
