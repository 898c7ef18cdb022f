"""Makes the models that know the drawn world and ship with the package, beside the embedded one: from nothing.

``python -m vlm_selfalign.graft clip`` trains the tiny open_clip model; ``tower`` and ``language`` the grafted model.
"""
