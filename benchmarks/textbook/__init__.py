"""The baseline as a textbook would write it: float32, contiguous, one plain operation after the other.

AGW (Ye et al., Deep Learning for Person Re-Identification: A Survey and Outlook, TPAMI 2021) with one stem for each
modality. It is the peer that training and embedding are measured against, and in the tests an independent oracle.
"""
