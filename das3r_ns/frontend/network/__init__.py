"""The front end with the DAS3R, MonST3R or DUSt3R network: predictions of pairs, and one global alignment of them."""
