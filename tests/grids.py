"""Convolutions of awkward shapes, as descriptors: what every algorithm is put to."""

from __future__ import annotations

from numbaconv.problem import ConvProblem

_DESCRIPTORS = (
    # one pixel, of one thing and of many, alone and in the middle of zeros
    "mb1ic1ih1oc1oh1kh1ph0",
    "mb1ic13ih1oc37oh1kh1ph0",
    "mb1ic5ih1oc7oh1kh3ph1",
    # 1 x 1: tails of pixels and channels, whole tiles, three axes, strides, zeros around
    "mb1ic19ih13iw11oc41oh13ow11kh1kw1ph0pw0",
    "mb2ic16ih16oc64oh16kh1ph0",
    "mb1ic8id3ih3iw5oc16od3oh3ow5kd1kh1kw1pd0ph0pw0",
    "mb2ic6ih9oc5oh5kh1sh2ph0",
    "mb1ic20ih31oc70oh16kh1sh2ph0",
    "mb2ic8id5ih7iw17oc9od3oh7ow6kd1kh1kw1sd2sh1sw3pd0ph0pw0",
    "mb1ic3ih4oc5oh6kh1ph1",
    # 3 x 3: channels that are tiles and primes, fewer output channels than tile rows, a batch
    "mb1ic16ih14oc64oh14kh3ph1",
    "mb1ic17ih7oc31oh7kh3ph1",
    "mb1ic8ih9oc1oh9kh3ph1",
    "mb3ic4ih7iw5oc3oh7ow5kh3kw3ph1pw1",
    # rows narrower than a tile, and of 1000
    "mb1ic2ih5iw2oc3oh5ow2kh3kw3ph1pw1",
    "mb1ic3ih3iw1000oc5oh3ow1000kh3kw3ph1pw1",
    # kernels of one row or column, of even size, as large as the input
    "mb1ic4ih6iw9oc5oh6ow9kh1kw7ph0pw3",
    "mb1ic4ih9iw6oc5oh5ow2kh7kw1sh2sw4ph3pw0",
    "mb1ic3ih8iw10oc6oh7ow7kh2kw4ph0pw0",
    "mb1ic3ih5oc18oh1kh5ph0",
    # kernels so large that their rows are sums of their own, and of one column, which is copied by longer vectors
    "g2mb1ic4ih51iw52oc6oh4ow4kh50kw49ph1pw0",
    "g2mb1ic2ih27iw30oc4oh4ow14kh24kw25ph0pw4",
    "mb1ic160ih8iw6oc8oh6ow6kh3kw1ph0pw0",
    # strides, also beyond the kernel
    "mb1ic18ih12iw35oc20oh6ow18kh3kw3sh2sw2ph1pw1",
    "mb1ic3ih11iw17oc5oh4ow4kh2kw3sh3sw4ph0pw0",
    # padding as wide as the kernel and wider, and different on all sides
    "mb1ic2ih5oc3oh10kh2ph3",
    "mb1ic2ih3iw4oc2oh10ow11kh2kw2ph6pw6dh4dw4",
    "mb1ic3ih6iw7oc4oh7ow8kh3kw4ph1pw0",
    "mb1ic3ih6iw7oc4oh3ow4kh3kw4sh2sw2ph0pw3",
    # dilation, with and without strides
    "mb1ic20ih12iw23oc6oh12ow19kh3kw3ph3pw2dh2dw3",
    "mb1ic4ih15oc5oh8kh3sh2ph2dh1",
    # dilation that spans more rows, and more columns, than are unrolled
    "g2mb1ic2ih5oc4oh5kh3ph300dh299",
    "g2mb1ic2iw5oc2ow5kw3pw40000dw39999",
    # phases of strides, alone and along one axis, with dilation, and groups of uneven kernels
    "mb1ic20ih11iw14oc18oh6ow7kh3kw3sh2sw2ph1pw1",
    "g2mb2ic36ih9iw12oc20oh5ow6kh5kw4sh2sw2ph2pw1",
    "mb1ic17ih13iw11oc19oh4ow11kh7kw3sh3sw1ph2pw1",
    "mb1ic18ih13iw17oc17oh7ow4kh3kw5sh2sw3ph2pw2dh1dw1",
    # phases of few channels, side by side, and some that exceed a vector
    "mb1ic3ih31oc9oh6kh11sh4ph0",
    "mb2ic3ih19iw22oc18oh10ow11kh7kw7sh2sw2ph3pw3",
    "mb1ic5ih13iw26oc4oh4ow6kh4kw7sh3sw4ph1pw1",
    # groups, among them depthwise with multipliers, strides, dilation, and a single channel's filter
    "g3mb2ic6ih8oc9oh8kh3ph1",
    "g2mb1ic36ih5iw9oc38oh5ow9kh3kw3ph1pw1",
    "g37mb1ic37ih7oc37oh7kh3ph1",
    "g5mb1ic5ih10iw19oc10oh5ow10kh3kw3sh2sw2ph1pw1",
    "g3mb2ic3ih15iw21oc3oh16ow22kh2kw3ph1pw2",
    "g2mb1ic2id3ih9iw20oc2od3oh9ow20kd1kh3kw3pd0ph1pw1",
    "g3mb2ic3ih9iw37oc9oh9ow37kh3kw5ph2pw6dh1dw2",
    "g3mb1ic3ih8iw29oc3oh4ow7kh3kw3sh2sw4ph1pw1dh0dw2",
    "mb1ic1ih5iw1000oc1oh5ow1000kh7kw9ph3pw4",
    "mb1ic1iw4099oc2ow4099kw5pw2",
    # a narrow image and a deep kernel, whose rows are sums of their own
    "g2mb1ic2id7ih10iw10oc2od2oh1ow1kd6kh10kw10pd0ph0pw0",
    # input channels that are cut into blocks, at a distance of kibibytes, which the staged block widens
    "mb1ic300ih6oc20oh6kh3ph1",
    "mb1ic256ih3iw8oc33oh3ow8kh3kw3ph1pw1",
    # one axis and three
    "mb2ic5iw50oc7ow50kw5pw2",
    "mb1ic18iw40oc6ow12kw3sw3pw0dw1",
    "mb1ic3id4ih5iw6oc5od4oh5ow6kd3kh3kw3pd1ph1pw1",
    "mb1ic2id7ih5iw9oc4od4oh3ow3kd2kh3kw2sd2sh2sw3pd1ph1pw0",
    "g4mb1ic4id4ih5iw17oc8od4oh5ow17kd3kh3kw3pd1ph1pw1",
    # 1 x 1 whose output is as large as its input, and yet sees other pixels, by stride and padding
    "mb1ic3ih1iw99oc9oh1ow99kh1kw1sh1sw2ph0pw50",
    "mb1ic3ih1iw99oc9oh1ow99kh1kw1sh2sw1ph1pw0",
    # 1 x 1 by halves: panels and pixels that end within a pair, groups, and channels that are cut
    "g2mb2ic40ih9oc150oh9kh1ph0",
    "mb1ic600ih6oc40oh6kh1ph0",
    # larger than a cache, in float32 too
    "mb5ic33iw3200oc9ow3200kw1",
)

PROBLEMS = tuple(ConvProblem.parse(descriptor) for descriptor in _DESCRIPTORS)
