"""PE files made by hand: headers and section tables, as the linker and `ukify` lay them out."""

import struct

DOS_STUB = 0x80


def pe_file(*sections: str, optional: int = 0xF0, lfanew: int = DOS_STUB, size: int = 4096) -> bytes:
    """A PE32+ file with these sections; of the optional header only the length matters here."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", lfanew)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0, 0, 0, optional, 0x22)
    table = b"".join(
        struct.pack("<8sIIIIIIHHI", name.encode(), 512, 0x1000 * i, 512, 1024, 0, 0, 0, 0, 0x40000040)
        for i, name in enumerate(sections, 1)
    )
    return (dos.ljust(lfanew, b"\0") + coff + bytes(optional) + table).ljust(size, b"\x90")


UKI = pe_file(".text", ".osrel", ".cmdline", ".uname", ".linux", ".initrd")
EFI_ZBOOT = pe_file(".text", ".data")  # arm64's vmlinuz.efi
