"""Estimators of mutual information other than the method's own, for comparison.

    from milr.estimators import estimate
    estimate(x, z, method="nwj")  # -> Estimate(value, standard_error, kind, trace), nats

Where a critic or a density is learned, the value is read on samples that nothing was learned from.
"ksg" and "gaussian" learn nothing beforehand and read all samples, as they are given. What is
promised, in expectation over the samples that are read:

| method | reads | kind |
|---|---|---|
| infonce | a critic, K samples at a location (van den Oord et al. 2018) | lower bound |
| infonce-paper | the same, all N K local features in the denominator (eq. 3) | lower bound |
| infonce-pooled | the others' locations together, own weight 1/K, as Deep InfoMax | lower bound |
| nwj | E f + 1 - E' e^f (Nguyen et al. 2010, whose f is this one + 1) | lower bound |
| mine | E f - log E' e^f, bias-corrected gradient (Belghazi et al. 2018) | neither |
| jsd | E f of a critic that tells pairs from others (Nowozin 2016, Poole 2019) | neither |
| smile | the critic of jsd, E f - log E' e^f with f cut to +-5 (Song and Ermon 2020) | neither |
| club, club-full | E log q(z|x) - E' log q(z|x), one other or all (Cheng et al. 2020) | neither* |
| leave-one-out | E log q(z|x) - E log mean' q(z|x') (Poole et al. 2019) | neither* |
| vib | E log p(z|x) - E log N(z), p known (equation 8; Alemi et al. 2017) | upper bound |
| ksg | nearest neighbours (Kraskov et al. 2004) | neither |
| gaussian | canonical correlations | neither |

(*) an upper bound where the channel p(z|x) is given; with a learned q the error has no sign.

Why "mine" is neither although Donsker-Varadhan is a lower bound for every critic: the mean of e^f
is taken over samples, inside a logarithm, and -log of a mean is on average above -log of what it
estimates (Jensen). So a held-out value lies above the bound, by at most about
Var(e^f) / (n E[e^f]^2), moments over independent x and z (all n (n - 1) pairs are read, but those
of a sample belong together), which is small until e^f has heavy tails, that is, at high
information. NWJ has no logarithm around a mean, and InfoNCE's holds for every batch.
"""

from milr.estimators.face import CRITICS, estimate, estimate_many
from milr.estimators.result import METHODS, Estimate
from milr.estimators.training import Settings

__all__ = ["CRITICS", "METHODS", "Estimate", "Settings", "estimate", "estimate_many"]
