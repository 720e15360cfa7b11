"""L_t with a synergy target: the synergistic branch teaches each single modality.

This is this project's reading, not a printed equation. The paper's hooks for it: the hat over y in eq. 4,
"knowledge synergy" as the motivation of the module, and y as an input of S in eq. 2.
"""

import torch.nn.functional as F
from torch import Tensor


def soft_target_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the rows.

    T^2 keeps the gradient's size independent of T (Hinton et al., 2015). The teacher gets no gradient.

    Args:
        student: (N, K) logits of one modality.
        teacher: (N, K) logits that teach it.
        temperature: T > 0.
    """
    target = F.log_softmax(teacher.detach() / temperature, dim=1)
    prediction = F.log_softmax(student / temperature, dim=1)
    return temperature**2 * F.kl_div(prediction, target, reduction="batchmean", log_target=True)
