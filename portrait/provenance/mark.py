"""The machine-readable mark of a generated picture: XMP with IPTC's DigitalSourceType and the tool's name."""

from __future__ import annotations

import portrait

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC: a composite that includes elements made by a trained model. Every portrait is one, as it contains parts of the
photo."""
TOOL = f"portrait {portrait.__version__}"

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>{tool}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def xmp_mark(*, tool: bool = True) -> str:
    """The XMP packet of a generated picture; always the same bytes, since it has no date.

    Without `tool` it does not name portrait and its version (`xmp:CreatorTool`); the mark itself is always included.
    """
    creator = f"\n   <xmp:CreatorTool>{TOOL}</xmp:CreatorTool>" if tool else ""
    return _PACKET.format(source=GENERATED, tool=creator)
