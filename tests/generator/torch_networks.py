"""Small networks of torchvision's kinds, written for the tests of the PyTorch importer. Loaded where torch is.

Statistics and scales of norms are drawn, so that a forgotten or misplaced one shows in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def prepared(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a network ready for inference, with every statistic and vector of parameters drawn by seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.is_floating_point() and tensor.dim() == 1:
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if name.endswith(("weight", "var")) else drawn - 0.5)
    return network.eval()


def counted_macs(network: nn.Module, image: Tensor) -> int:
    """Return the multiply-accumulates that PyTorch counts, attention by its plain kernels."""
    fastest = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter knows neither this nor attention's fast kernels
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            network(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastest)
    return counter.get_total_flops() // 2


def norm_conv(channels: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution, padded alike on all sides, with a batch norm and no bias."""
    conv = nn.Conv2d(channels, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(made))


class Residual(nn.Module):
    """ResNet's basic block, its activations in place, with a projection where the shape changes."""

    def __init__(self, channels: int, made: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.first = norm_conv(channels, made, 3, stride, groups)
        self.second = norm_conv(made, made, 3, 1, groups)
        self.relu = nn.ReLU(inplace=True)
        self.project = norm_conv(channels, made, 1, stride) if stride > 1 or channels != made else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.relu(self.first(x)))
        out += self.project(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A stem with pooling, residual blocks, and a classifier."""

    def __init__(self, groups: int = 1, border: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(norm_conv(3, 8, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, border))
        self.blocks = nn.Sequential(Residual(8, 8, 1, groups), Residual(8, 16, 2, groups))
        self.classify = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(torch.flatten(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1), 1))


class SqueezeExcitation(nn.Module):
    """A gate a channel from the global mean."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return F.hardsigmoid(self.excite(scale)) * x


class InvertedResidual(nn.Module):
    """MobileNetV3's block: expand, depthwise, squeeze-and-excitation, project."""

    def __init__(self, channels: int, expanded: int, made: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(norm_conv(channels, expanded, 1), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(norm_conv(expanded, expanded, 5, stride, expanded), nn.Hardswish(inplace=True))
        self.gate, self.project = SqueezeExcitation(expanded, 4), norm_conv(expanded, made, 1)
        self.kept = stride == 1 and channels == made

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.gate(self.depthwise(self.expand(x))))
        return x + out if self.kept else out


class MobileNet(nn.Module):
    """Inverted residuals between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(norm_conv(3, 8, 3, 2), nn.Hardswish()),
            *(InvertedResidual(8, 16, 8, 1), InvertedResidual(8, 24, 12, 2)),
            *(norm_conv(12, 16, 1), nn.ReLU6(inplace=True)),
        )
        self.classify = nn.Sequential(nn.Linear(16, 12), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).mean([2, 3]))


class DenseNet(nn.Module):
    """Norm before convolution, every output concatenated, a transition that halves."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1, bias=False) for i in range(3))
        self.stem, self.halve = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(18, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)), inplace=True)))
        return F.avg_pool2d(self.halve(torch.cat(features, 1)), 2, 2)


class ShuffleNet(nn.Module):
    """Halves of the channels, one of them worked on, then shuffled; ShuffleNetV2's unit and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = norm_conv(3, 16, 3, 2)
        self.branch = nn.Sequential(norm_conv(8, 8, 1), nn.ReLU(True), norm_conv(8, 8, 3, 1, 8), norm_conv(8, 8, 1))
        self.grouped = nn.Conv2d(16, 32, 3, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = self.stem(x).chunk(2, dim=1)
        out = torch.cat((kept, F.relu(self.branch(worked))), 1)
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return self.grouped(out.view(batch, -1, height, width))


class Inception(nn.Module):
    """Branches of different windows, one of two that are not square, and pools that keep the size."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 4, 1)
        self.five = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Conv2d(3, 6, (1, 7), padding=(0, 3)))
        self.tall = nn.Conv2d(6, 6, (7, 1), padding=(3, 0))
        self.reduce = nn.Conv2d(18, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        pooled, highest = F.avg_pool2d(x, 3, 1, 1), F.max_pool2d(x, 3, 1, 1)
        out = torch.cat([F.relu(self.one(x)), F.relu(self.tall(self.five(x))), pooled, highest], 1)
        return torch.cat([self.reduce(out), F.max_pool2d(out, 3, 2, ceil_mode=False)], 1)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, then channels last: norm, two layers, a scale a channel, and the shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand, self.shrink = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        out = self.shrink(F.gelu(self.expand(out))).permute(0, 3, 1, 2)
        return x + self.scale * out


class ConvNeXt(nn.Module):
    """Patches, two blocks, and a head with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(ConvNeXtBlock(8), ConvNeXtBlock(8))
        self.norm, self.classify = nn.LayerNorm(8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.norm(self.blocks(self.stem(x)).mean((-1, -2))))


class VisionTransformer(nn.Module):
    """Patches with a class token and positions, encoder blocks of ``nn.MultiheadAttention``, the token's class."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Dropout(0.1), nn.Linear(24, width))
        self.classify = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).permute(0, 2, 1)
        out = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.positions
        normed = self.first(out)
        out = out + self.attention(normed, normed, normed, need_weights=False)[0]
        out = out + self.layers(self.second(out))
        return self.classify(out[:, 0])


def encoder() -> nn.Module:
    """Return PyTorch's own encoder layer, twice, the norm before."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class WindowAttention(nn.Module):
    """Swin's attention in shifted windows: positions from a table by index, a mask written part by part."""

    def __init__(self, width: int = 8, window: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (places[:, :, None] - places[:, None, :]) + window - 1
        self.register_buffer("index", (apart[0] * (2 * window - 1) + apart[1]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        size, shift, area = self.window, self.window // 2, self.window**2
        batch, height, width, channels = x.shape
        x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.view(batch, height // size, size, width // size, size, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, area, channels)
        q, k, v = self.qkv(x).reshape(-1, area, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        attention = (q * (channels // self.heads) ** -0.5).matmul(k.transpose(-2, -1))
        bias = self.table[self.index].view(area, area, -1).permute(2, 0, 1).contiguous()
        attention = attention + bias.unsqueeze(0)
        mask = x.new_zeros((height, width))
        for i, rows in enumerate(((0, -size), (-size, -shift), (-shift, None))):
            mask[rows[0] : rows[1], -shift:] = i
        mask = mask.view(height // size, size, width // size, size).permute(0, 2, 1, 3).reshape(-1, area)
        mask = mask.unsqueeze(1) - mask.unsqueeze(2)
        mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        attention = attention.view(batch, -1, self.heads, area, area) + mask.unsqueeze(1).unsqueeze(0)
        out = F.softmax(attention.view(-1, self.heads, area, area), -1).matmul(v).transpose(1, 2)
        out = self.out(out.reshape(-1, area, channels)).view(batch, height // size, width // size, size, size, channels)
        out = out.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        return torch.roll(out, (shift, shift), (1, 2))


def decoder() -> nn.Module:
    """Return what enlarges an image: a transposed convolution, a pixel shuffle, a resize, reflected borders."""
    return nn.Sequential(
        *(nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1), nn.InstanceNorm2d(6, affine=True), nn.PReLU(6)),
        *(nn.Conv2d(6, 16, 3, padding="same"), nn.PixelShuffle(2), nn.GroupNorm(2, 4), nn.SiLU(inplace=True)),
        *(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(4, 3, 3), nn.Tanh()),
    )


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], Shape]] = {
    "resnet": (ResNet, (2, 3, 32, 32)),
    "resnext": (partial(ResNet, groups=4), (1, 3, 33, 33)),
    "mobilenet": (MobileNet, (1, 3, 24, 24)),
    "densenet": (DenseNet, (1, 3, 8, 8)),
    "shufflenet": (ShuffleNet, (1, 3, 12, 12)),
    "inception": (Inception, (1, 4, 9, 9)),
    "convnext": (ConvNeXt, (1, 3, 16, 16)),
    "transformer": (VisionTransformer, (2, 3, 16, 16)),
    "encoder": (encoder, (2, 6, 16)),
    "windows": (WindowAttention, (1, 8, 8, 8)),
    "decoder": (decoder, (1, 4, 5, 5)),
}
"""Each network's maker and its input's shape."""
