"""NIF, neural information flow, as a poster describes it, and in corrected forms.

From the poster of Davis, Bhatt, Bhardwaj, Marculescu and Moura (2019); what it does not say is
chosen here, and said where it is.

- `mine`: equation 1, for all links of a layer at once
- `flow`: equation 2 with its order, and the chain rule; equation 4; what flows through a unit
- `shared`: equation 3, whose supremum does not exist
- `exact`: the same by enumeration, for binary networks and small tables
- `graph`: communities
"""

from milr.peers.nif.mine import Settings, estimate

__all__ = ["Settings", "estimate"]
