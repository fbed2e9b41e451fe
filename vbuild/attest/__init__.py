"""Who vouches for a model: keys, signatures, statements, and strict verification.

- Bytes in, verdict or error out. Only ``tree``, ``verify``, ``sign``, ``private`` and ``trust``
  touch the file system, and none of them prints, asks or reads the environment.
- What does not match is a result (``Mismatch`` or a verdict), what is not a well-formed bundle,
  statement or key is ``InvalidInput``, what could not be read is ``Unavailable``.
- A key found in a bundle is never trusted; its fingerprint is shown as a claim.
- pycryptodome is imported where a signature is made or checked, not before.
"""
