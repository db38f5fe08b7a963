"""IP-XACT of a chip (IEEE 1685-2009, as Vivado reads it): ports, buses, clock, reset, interrupt,
registers, files."""

from importlib.metadata import version
from xml.sax.saxutils import escape

from systolith.hw.core.axi import AXI4Signature, AXILiteSignature
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.registers import REGISTERS

__all__ = ["REGISTER_BYTES", "VLNV", "component_xml"]

#: Of the address space in which the registers stand.
REGISTER_BYTES = 4096
#: Vendor, library, name of the component.
VLNV = ("systolith", "ip", "systolith")

_ACCESS = {"r": "read-only", "w": "write-only", "rw": "read-write"}
#: Ports of a master's bus beside those of its signature: name -> bits, and of a slave's registers.
_MORE = {"lock": 1, "cache": 4, "prot": 3, "qos": 4}


def _tag(name, *content):
    """An element with text or with other elements in it."""
    inside = "".join(content)
    if "<" not in inside:
        return f"<spirit:{name}>{inside}</spirit:{name}>\n"
    lines = "".join(f"  {line}\n" for line in inside.splitlines())
    return f"<spirit:{name}>\n{lines}</spirit:{name}>\n"


def _text(name, value):
    return _tag(name, escape(str(value)))


def _type(kind, vlnv):
    vendor, library, name, number = vlnv.split(":")
    return (f'<spirit:{kind} spirit:vendor="{vendor}" spirit:library="{library}" '
            f'spirit:name="{name}" spirit:version="{number}"/>\n')


def _parameter(bus, name, value):
    identifier = f"BUSIFPARAM_VALUE.{bus.upper()}.{name}"
    return _tag("parameter", _text("name", name),
                f'<spirit:value spirit:id="{identifier}">{escape(str(value))}</spirit:value>\n')


def _interface(name, kind, mode, ports, parameters):
    """A bus interface; `ports` are (logical, physical)."""
    library, bus = kind.split(":")
    maps = "".join(_tag("portMap", _tag("logicalPort", _text("name", logical)),
                        _tag("physicalPort", _text("name", physical)))
                   for logical, physical in ports)
    return _tag("busInterface", _text("name", name),
                _type("busType", f"xilinx.com:{library}:{bus}:1.0"),
                _type("abstractionType", f"xilinx.com:{library}:{bus}_rtl:1.0"), mode,
                _tag("portMaps", maps),
                _tag("parameters", *(_parameter(name, *item) for item in parameters)))


def _members(signature, lite):
    """(name, bits, whether the master drives it) of a bus."""
    members = [(name, item.shape, item.flow.name == "Out")
               for name, item in signature.members.items()]
    return members + [(f"{channel}{name}", bits, True) for channel in ("aw", "ar")
                      for name, bits in _MORE.items() if not lite or name == "prot"]


def _port(name, direction, bits):
    vector = "" if bits == 1 else _tag("vector", _text("left", bits - 1), _text("right", 0))
    views = _tag("wireTypeDefs", _tag(
        "wireTypeDef", _text("typeName", "wire"),
        _text("viewNameRef", "xilinx_anylanguagesynthesis"),
        _text("viewNameRef", "xilinx_anylanguagebehavioralsimulation")))
    return _tag("port", _text("name", name),
                _tag("wire", _text("direction", direction), vector, views))


def _file(name, *more):
    return _tag("file", _text("name", name), _text("fileType", "verilogSource"), *more)


def component_xml(arch: Arch, top: str) -> str:
    """The text of component.xml: the module `top` of `core.v` and `TOP.v`."""
    master = _members(AXI4Signature(32, arch.bus_bits), False)
    slave = _members(AXILiteSignature(12), True)
    buses = [
        _interface("m_axi", "interface:aximm",
                   _tag("master", '<spirit:addressSpaceRef spirit:addressSpaceRef="m_axi"/>\n'),
                   [(name.upper(), f"m_axi_{name}") for name, _, _ in master],
                   [("PROTOCOL", "AXI4"), ("DATA_WIDTH", arch.bus_bits), ("ADDR_WIDTH", 32),
                    ("ID_WIDTH", 1), ("SUPPORTS_NARROW_BURST", 0), ("MAX_BURST_LENGTH", 256)]),
        _interface("s_axi", "interface:aximm",
                   _tag("slave", '<spirit:memoryMapRef spirit:memoryMapRef="s_axi"/>\n'),
                   [(name.upper(), f"s_axi_{name}") for name, _, _ in slave],
                   [("PROTOCOL", "AXI4LITE"), ("DATA_WIDTH", 32), ("ADDR_WIDTH", 12)]),
        _interface("aclk", "signal:clock", "<spirit:slave/>\n", [("CLK", "aclk")],
                   [("ASSOCIATED_BUSIF", "m_axi:s_axi"), ("ASSOCIATED_RESET", "aresetn")]),
        _interface("aresetn", "signal:reset", "<spirit:slave/>\n", [("RST", "aresetn")],
                   [("POLARITY", "ACTIVE_LOW")]),
        _interface("irq", "signal:interrupt", "<spirit:master/>\n", [("INTERRUPT", "irq")],
                   [("SENSITIVITY", "LEVEL_HIGH")]),
    ]
    registers = "".join(_tag(
        "register", _text("name", item.name), _text("description", item.doc),
        _text("addressOffset", f"0x{item.offset:X}"), _text("size", 32),
        _text("access", _ACCESS[item.access])) for item in REGISTERS)
    ports = [_port("aclk", "in", 1), _port("aresetn", "in", 1), _port("irq", "out", 1),
             *(_port(f"m_axi_{name}", "out" if out else "in", bits) for name, bits, out in master),
             *(_port(f"s_axi_{name}", "in" if out else "out", bits) for name, bits, out in slave)]
    views = [("xilinx_anylanguagesynthesis", ":vivado.xilinx.com:synthesis"),
             ("xilinx_anylanguagebehavioralsimulation", ":vivado.xilinx.com:simulation")]
    family = "".join(f'<xilinx:family xilinx:lifeCycle="Production">{name}</xilinx:family>\n'
                     for name in ("zynq", "artix7", "kintex7", "virtex7", "spartan7", "zynquplus"))
    extensions = _tag("vendorExtensions", (
        "<xilinx:coreExtensions>\n  <xilinx:supportedFamilies>\n"
        + "".join(f"    {line}\n" for line in family.splitlines())
        + "  </xilinx:supportedFamilies>\n"
        "  <xilinx:taxonomies>\n    <xilinx:taxonomy>/UserIP</xilinx:taxonomy>\n"
        "  </xilinx:taxonomies>\n"
        f"  <xilinx:displayName>Systolith {escape(arch.name)}</xilinx:displayName>\n"
        "  <xilinx:coreRevision>1</xilinx:coreRevision>\n</xilinx:coreExtensions>\n"))
    content = "".join([
        *(_text(key, value) for key, value in zip(("vendor", "library", "name"), VLNV,
                                                  strict=True)),
        _text("version", ".".join(version("systolith").split(".")[:2])),
        _tag("busInterfaces", *buses),
        _tag("addressSpaces", _tag("addressSpace", _text("name", "m_axi"),
                                   _text("range", "0x100000000"), _text("width", 32))),
        _tag("memoryMaps", _tag("memoryMap", _text("name", "s_axi"), _tag(
            "addressBlock", _text("name", "reg0"), _text("baseAddress", "0x0"),
            _text("range", f"0x{REGISTER_BYTES:X}"), _text("width", 32),
            _text("usage", "register"), registers))),
        _tag("model",
             _tag("views", *(_tag(
                 "view", _text("name", name), _text("envIdentifier", where),
                 _text("language", "Verilog"), _text("modelName", top),
                 _tag("fileSetRef", _text("localName", name))) for name, where in views)),
             _tag("ports", *ports)),
        _tag("fileSets", *(_tag("fileSet", _text("name", name), _file("core.v"), _file(f"{top}.v"))
                           for name, _ in views)),
        _text("description", f"Systolic-array accelerator, chip {arch.name}: AXI4 master, AXI4-Lite"
                             " registers"),
        _tag("parameters", _tag("parameter", _text("name", "Component_Name"), (
            '<spirit:value spirit:resolve="user" spirit:id="PARAM_VALUE.Component_Name" '
            f'spirit:order="1">{top}</spirit:value>\n'))),
        extensions,
    ])
    return ('<?xml version="1.0" encoding="UTF-8"?>\n'
            '<spirit:component xmlns:xilinx="http://www.xilinx.com" '
            'xmlns:spirit="http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
            + "".join(f"  {line}\n" for line in content.splitlines())
            + "</spirit:component>\n")
