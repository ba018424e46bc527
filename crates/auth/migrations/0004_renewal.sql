-- The newest certificate of a device that was renewed, until the device is revoked or erased.
ALTER TABLE devices ADD COLUMN certificate BLOB;
