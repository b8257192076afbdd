from tests.devices.conftest import lose_rights, open_folder

__all__ = ["lose_rights", "open_folder"]
